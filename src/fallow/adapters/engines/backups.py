"""A folder with backups of the embedded PostgreSQL, on another disk: copies of the database, and its log of changes.

- `database`: which database's they are, by the number that PostgreSQL drew for it;
- `base/TIME/`: a copy of the whole (`base.tar.gz`, `pg_wal.tar.gz`, `backup_manifest`), complete at TIME, in UTC;
- `wal/NAME.gz`: PostgreSQL's log of changes, a file a minute: any time behind a copy can be restored;
- `network/`: what else the network needs to start elsewhere: its keys and settings.
"""

from __future__ import annotations

import gzip
import logging
import shlex
import shutil
import sys
import zlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import msgspec

from fallow.adapters.engines.folders import give_to, private_folder, write_private
from fallow.adapters.engines.users import EngineUser, blocked_folder
from fallow.domain.errors import Conflict, InvalidInput, NotFound
from fallow.ports.files import sync

WAL_EVERY_S: Final = 60
"""What was changed is in the folder after so long, at the latest: what a lost disk can cost."""
BASE, BASE_WAL, MANIFEST = "base.tar.gz", "pg_wal.tar.gz", "backup_manifest"
UNPACKED: Final = (OSError, EOFError, zlib.error)
"""What unpacking a file raises that is damaged."""
_TIME: Final = "%Y%m%dT%H%M%S.%fZ"
_COPIES: Final = "????????T??????.??????Z"
"""Names of copies, as `_TIME` writes them; what else somebody puts beside them is none."""
_WAL_NAME: Final = 24
_BROKEN: Final = 200
"""Above 125 PostgreSQL gives up; below, it takes the file for one that was never written, and ends before it."""

_log = logging.getLogger(__name__)


class _Range(msgspec.Struct, frozen=True):
    timeline: int = msgspec.field(name="Timeline")
    start: str = msgspec.field(name="Start-LSN")
    end: str = msgspec.field(name="End-LSN")


class _Manifest(msgspec.Struct, frozen=True):
    ranges: Annotated[list[_Range], msgspec.Meta(min_length=1)] = msgspec.field(name="WAL-Ranges")


class Copy(NamedTuple):
    """A copy of the whole database, when it was complete, and which places of the log of changes it takes."""

    at: datetime
    folder: Path
    ranges: list[_Range]

    @property
    def first_wal(self) -> str:
        """Name of the first file of the log of changes that it takes to use it."""
        first = self.ranges[0]
        high, low = divmod(_place(first.start), 1 << 32)
        return f"{first.timeline:08X}{high:08X}{low >> 24:08X}"

    @property
    def timeline(self) -> int:
        """Which course of things it is of: each restore begins another one."""
        return self.ranges[-1].timeline

    @property
    def end(self) -> int:
        """Up to which place it takes the log of changes."""
        return _place(self.ranges[-1].end)


class Course(NamedTuple):
    """A course of things, by PostgreSQL's number of its timeline: when it began, and where it left those before it."""

    number: int
    began: datetime
    left: Mapping[int, int]

    def has(self, copy: Copy) -> bool:
        """Whether it began from there, or went through it."""
        return copy.timeline == self.number or copy.end <= self.left.get(copy.timeline, -1)


class Start(NamedTuple):
    """A copy to begin from, and the course to go along."""

    copy: Copy
    course: int


class Backups:
    """Such a folder. It has to be there: one that is made here would be on the wrong disk where none is mounted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.base = folder / "base"
        self.wal = folder / "wal"
        self.network = folder / "network"

    def prepare(self, postgres: Path, user: EngineUser) -> None:
        """Make ready for what the engine writes, run as `user` on its folder `postgres`.

        Raises:
            InvalidInput: there is no such folder, or `user` cannot enter it (`backup.folder`).
            NotFound: this machine has no gzip (`backup.no_gzip`).
            Conflict: it has the backups of another database (`backup.foreign`).
        """
        self._require(user)
        named, database = self.folder / "database", _number(postgres)
        if not named.exists():
            write_private(named, f"{database}\n")
        if named.read_text("ascii").strip() != str(database):
            raise Conflict(
                "backup.foreign", f"{self.folder} has backups of another database.", "Name a folder of its own for it."
            )
        for folder in (self.base, self.wal):
            private_folder(folder, user)
        for rubbish in self.base.glob(".*"):
            shutil.rmtree(rubbish)
        self._send_histories(postgres / "pg_wal", user)

    def _send_histories(self, wal: Path, user: EngineUser) -> None:
        """Have PostgreSQL send what a restore, which is no part of the backups before it is used, did not."""
        for history in wal.glob("*.history"):
            if not (self.wal / f"{history.name}.gz").exists():
                ready = wal / "archive_status" / f"{history.name}.ready"
                ready.touch()
                give_to(ready, user)

    def _require(self, user: EngineUser) -> None:
        if not self.folder.is_absolute() or not self.folder.is_dir():
            hint = "Name one by its whole path; mount its disk, or make it."
            raise InvalidInput("backup.folder", f"{self.folder} is no folder.", hint)
        if (blocked := blocked_folder(self.folder, user)) is not None:
            hint = f"Let others pass through with: chmod o+x {blocked}"
            raise InvalidInput("backup.folder", f"PostgreSQL's user, number {user.uid}, cannot enter {blocked}.", hint)
        if shutil.which("gzip", path="/usr/bin:/bin") is None:
            raise NotFound("backup.no_gzip", "Backups are packed by gzip, which is not here.", "Install gzip.")

    def settings(self) -> Mapping[str, str]:
        """What PostgreSQL runs with so that its log of changes comes here.

        A file that is there already is right if it says the same: who died behind writing it writes it again. Each
        keeps the time at which it was written: that of a history is when its course began.
        """
        file = self._wal_file()
        new = f"{file}.new"
        command = (
            f"if test -e {file}; then gzip -dc {file} | cmp -s - %p; else"
            f" gzip -1 -c %p > {new} && touch -r %p {new} && sync {new} && mv {new} {file}"
            f" && sync {_quoted(self.wal)}; fi"
        )
        return {"archive_mode": "on", "archive_timeout": f"{WAL_EVERY_S}s", "archive_command": command}

    def restoring(self, at: datetime | None, course: int, beside: Path | None) -> Mapping[str, str]:
        """What PostgreSQL runs with to take changes of a course from here up to a time, and then waits for a word.

        What did not come here before its disk was set aside, to `beside`, is taken from there.
        """
        file = self._wal_file()
        other = f"{_quoted(beside / 'pg_wal')}/%f" if beside else ""
        or_else = f"elif test -e {other}; then cp {other} %p || exit {_BROKEN}; " if beside else ""
        command = f"if test -e {file}; then gzip -dc {file} > %p || exit {_BROKEN}; {or_else}else exit 1; fi"
        target = {"recovery_target_time": at.astimezone(UTC).isoformat(" ")} if at else {}
        fixed = {"recovery_target_action": "pause", "recovery_target_timeline": str(course)}
        return {"restore_command": command, **fixed, **target}

    def _wal_file(self) -> str:
        return f"{_quoted(self.wal)}/%f.gz"

    def copies(self) -> list[Copy]:
        """Copies of the whole that are there, the oldest first; one without a manifest that can be read is none."""
        found = sorted(self.base.glob(_COPIES)) if self.base.exists() else []
        return [copy for copy in map(_copy, found) if copy is not None]

    def copied(self) -> datetime:
        """When the newest copy was complete; where there is none, since when there are backups.

        Raises:
            OSError: the folder is not there.
        """
        names = [path.name for path in self.base.iterdir() if path.match(_COPIES)]
        if names:
            return datetime.strptime(max(names), _TIME).replace(tzinfo=UTC)
        return datetime.fromtimestamp((self.folder / "database").stat().st_mtime, UTC)

    def latest(self) -> datetime | None:
        """When the newest file of the log of changes was written."""
        times = [path.stat().st_mtime for path in self.wal.glob("*.gz")] if self.wal.exists() else []
        return datetime.fromtimestamp(max(times), UTC) if times else None

    def before(self, at: datetime | None) -> Start:
        """Return where to begin from to come to a time, on the course that things took then, or to the latest.

        Raises:
            NotFound: there is no copy so old (`backup.none`).
            Conflict: a history is damaged (`backup.damaged`).
        """
        course = [one for one in self.courses() if at is None or one.began <= at][-1]
        copies = [copy for copy in self.copies() if (at is None or copy.at <= at) and course.has(copy)]
        if not copies:
            raise NotFound("backup.none", f"{self.folder} has no copy from before then.", "Look at: fallow backup ls")
        return Start(copies[-1], course.number)

    def courses(self) -> list[Course]:
        """Courses that things took, in their order. Of each but the first there is a history."""
        later = [_course(path) for path in self.wal.glob("????????.history.gz")]
        return [Course(1, datetime.min.replace(tzinfo=UTC), {}), *sorted(later)]

    def add(self, made: Path, at: datetime) -> None:
        """Take in a copy that is whole."""
        made.rename(self.base / at.strftime(_TIME))
        sync(self.base)

    def expire(self, now: datetime, days: int) -> None:
        """Delete what is not needed to restore any time of the last `days`."""
        copies = self.copies()
        needed = max((copy.at for copy in copies if copy.at <= now - timedelta(days=days)), default=None)
        for copy in copies:
            if needed is not None and copy.at < needed:
                shutil.rmtree(copy.folder)
        kept = self.copies()
        if kept:
            first = min(copy.first_wal[8:] for copy in kept)
            _delete(path for path in self.wal.glob("*.gz") if _is_before(path.name.removesuffix(".gz"), first))


def _number(folder: Path) -> int:
    """The number that PostgreSQL drew for a database when it made its folder."""
    with (folder / "global" / "pg_control").open("rb") as file:
        return int.from_bytes(file.read(8), sys.byteorder)


def _copy(folder: Path) -> Copy | None:
    try:
        at = datetime.strptime(folder.name, _TIME).replace(tzinfo=UTC)
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=_Manifest)
    except (OSError, ValueError) as error:
        _log.error("ALARM backup.damaged: %s is passed over: %s", folder, error)
        return None
    return Copy(at, folder, manifest.ranges)


def _course(path: Path) -> Course:
    """Read a history: lines of a timeline, the place where it was left, and why."""
    try:
        lines = [line.split() for line in gzip.decompress(path.read_bytes()).decode().splitlines() if line.strip()]
        left = {int(parts[0]): _place(parts[1]) for parts in lines}
        return Course(int(path.name[:8], 16), datetime.fromtimestamp(path.stat().st_mtime, UTC), left)
    except (*UNPACKED, ValueError, IndexError) as error:
        raise Conflict("backup.damaged", f"{path} is damaged: {error}", "Look after that disk.") from error


def _place(text: str) -> int:
    """Where something stands in the log of changes."""
    high, low = (int(half, 16) for half in text.split("/"))
    return high << 32 | low


def _is_before(name: str, first: str) -> bool:
    """Histories of timelines are small, and kept for ever."""
    return len(name) >= _WAL_NAME and name[8:_WAL_NAME] < first


def _delete(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _quoted(path: Path) -> str:
    """As a shell reads it, behind PostgreSQL's own placeholders."""
    return shlex.quote(str(path)).replace("%", "%%")
