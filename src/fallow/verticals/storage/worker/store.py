"""Pieces in log files of up to a gibibyte, on a disk that its owner lends up to a limit. Blocking; for threads.

A piece's place is set aside before its first byte comes (so that the limit and the disk's end are met at the door), and
it is there once its row is in the index, after its bytes have been synced. What a crash leaves behind the last piece of
a log is cut off at the next start, and pieces whose bytes it took are gone; holes between pieces go when a
log is half empty and its pieces move to another.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from blake3 import blake3

from fallow.domain.errors import Conflict, FallowError, NotFound, TooMuch, Unavailable
from fallow.verticals.storage.core.questions import TRASH_MS
from fallow.verticals.storage.worker.index import FILES, LOGS, WAL_BYTES_MAX, Index, Row, allocated
from fallow.verticals.storage.worker.outgoing import Outgoing
from fallow.verticals.storage.worker.writing import Incoming, failing

LOG_BYTES_MAX: Final = 1 << 30
LOG_BYTES_MIN: Final = 4 << 20
LOGS_A_LIMIT: Final = 64
"""A smaller loan has smaller log files: what compaction needs for a while is half of one."""

COPY_BYTES: Final = 1 << 20
PAGE: Final = 1000
MOVED_AT_ONCE: Final = 64

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
PASSING: Final = FULL | {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
"""Errors that say nothing of the disk's health: there may be room, or a free handle, a moment later."""

_log = logging.getLogger(__name__)


class Amounts(NamedTuple):
    """What a store takes of the disk, how much more it takes, and what it holds; bytes in the trash count as used."""

    used_bytes: int
    room_bytes: int
    trash_bytes: int
    pieces: int


class PieceStore:
    """The folder belongs to one process. `durable`: a piece is on the disk before it counts as there.

    Without it a power failure, and nothing less, can take pieces of the last seconds.

    Raises:
        Conflict: another process has the folder (`storage.busy`).
        Unavailable: it cannot be read (`storage.disk_failing`).
    """

    def __init__(
        self,
        folder: Path,
        *,
        limit_bytes: int,
        now_ms: Callable[[], int],
        spare_bytes: int = 0,
        durable: bool = True,
    ) -> None:
        self._folder = folder
        self._limit = limit_bytes
        self._spare = spare_bytes
        self._now_ms = now_ms
        self._durable = durable
        self._log_bytes = max(LOG_BYTES_MIN, min(LOG_BYTES_MAX, limit_bytes // LOGS_A_LIMIT))
        self._lock = threading.Lock()
        self._sweeping = threading.Lock()
        self._coming: set[bytes] = set()
        self._writers: dict[int, int] = {}
        self._failed = ""
        with ExitStack() as stack, self._disk():
            self._guard = _locked(folder)
            stack.callback(os.close, self._guard)
            self._require_index()
            self._index = Index(folder, durable=durable, wal_bytes=min(WAL_BYTES_MAX, self._log_bytes // 2))
            stack.callback(self._index.close)
            self._sizes = self._recovered()
            self._beside = self._found_beside()
            stack.pop_all()
        self._active = max(self._sizes, default=0)

    def close(self) -> None:
        """Let go of the folder."""
        self._index.close()
        os.close(self._guard)

    @property
    def durable(self) -> bool:
        """See the class."""
        return self._durable

    @property
    def used_bytes(self) -> int:
        """What the folder takes of the disk, as `du` counts it: what others put there, as it was found last."""
        return self._counted + self._beside

    @property
    def _counted(self) -> int:
        files = sum(allocated(self._folder / name) for name in FILES)
        return allocated(self._folder) + files + sum(map(_blocks, self._sizes.values()))

    @property
    def room_bytes(self) -> int:
        """How much more it takes: up to the limit, less what moving the pieces of one log needs for a while.

        And what the index does.
        """
        disk = os.statvfs(self._folder)
        on_disk = disk.f_bavail * disk.f_frsize - self._spare
        spare = self._log_bytes // 2 + self._index.spare_bytes
        return max(0, min(self._limit - self.used_bytes - spare, on_disk))

    def amounts(self) -> Amounts:
        """All of that at one moment.

        Raises:
            Unavailable: `storage.disk_failing`.
        """
        with self._lock, self._disk():
            pieces, trash = self._index.totals()
            return Amounts(self.used_bytes, self.room_bytes, trash, pieces)

    @property
    def failed(self) -> str:
        """Why it takes nothing more; empty where it does."""
        return self._failed

    def receive(self, piece: bytes, length: int) -> Incoming:
        """Set a place aside for a piece. Its bytes come through what this returns, and then it is committed.

        Raises:
            Conflict: it is there (`storage.piece_exists`), or another one brings it now (`storage.piece_busy`).
            TooMuch: `storage.full`: the limit or the disk's end is near.
            Unavailable: `storage.disk_failing`: the disk made an error before; nothing new is put there.
        """
        with self._lock:
            if self._failed:
                raise failing(self._failed)
            if self._index.find(piece) is not None:
                raise Conflict("storage.piece_exists", "This node has that piece already, or has it in its trash.")
            if piece in self._coming:
                raise Conflict("storage.piece_busy", "Another upload brings that piece now.", "Try again later.")
            with self._disk():
                room = self.room_bytes
            if length > room:
                raise TooMuch("storage.full", "This node has no room for the piece.", "Take another node.")
            log, start = self._set_aside(length)
            self._coming.add(piece)
        row = Row(piece, log, start, length, b"", 0)
        try:
            return Incoming(self, self._path(log), row, durable=self._durable)
        except OSError as error:
            self.done(row, kept=False)
            raise self.broke(error) from error

    def give(self, piece: bytes) -> Outgoing:
        """Begin to read a piece: see `Outgoing`."""
        return Outgoing(self, piece)

    def read(self, piece: bytes, start: int, stop: int) -> bytes:
        """Bytes `start` up to `stop` of a piece; see `Outgoing`."""
        with self.give(piece) as outgoing:
            return outgoing.read(start, stop)

    def opened(self, piece: bytes) -> tuple[Row, int]:
        """Where a piece lies, and a handle of the log file there. For `Outgoing`."""
        with self._lock:
            row = self._here(piece)
            return row, self._opened(row.log, os.O_RDONLY)

    def find(self, piece: bytes) -> Row:
        """Where a piece lies, and its hash.

        Raises:
            NotFound: `storage.no_piece`.
        """
        with self._lock:
            return self._here(piece)

    def held(self, pieces: Iterable[bytes]) -> list[bytes]:
        """Which of these pieces are here, and not in the trash."""
        with self._lock:
            rows = map(self._index.find, pieces)
            return [row.id for row in rows if row is not None and row.trashed_ms is None]

    def page(self, after: bytes) -> list[Row]:
        """Pieces behind one id, in their order, the trash included; none at the end."""
        with self._lock:
            return self._index.page(after, PAGE)

    def trash(self, pieces: Iterable[bytes]) -> None:
        """Put pieces aside: they are not here any more, and can be taken back for seven days."""
        with self._lock:
            self._index.trash(pieces, self._now_ms())

    def take_back(self, pieces: Iterable[bytes]) -> None:
        """Take pieces out of the trash."""
        with self._lock:
            self._index.trash(pieces, None)

    def purge(self, pieces: Iterable[bytes]) -> None:
        """Overwrite pieces and forget them, at once. What the disk itself keeps elsewhere nobody can say."""
        with self._sweeping:
            with self._lock:
                rows = [row for row in map(self._index.find, pieces) if row is not None]
                self._index.trash([row.id for row in rows], self._now_ms())  # nobody reads what is half overwritten
            for row in rows:  # beside others: a thousand pieces take a disk many seconds
                self._blank(row)
            with self._lock:
                self._index.drop([row.id for row in rows])

    def sweep(self) -> None:
        """Empty the trash of what has been there for seven days, and give back what is empty in the log files.

        And hold what is counted against the disk.
        """
        with self._sweeping:
            now_ms = self._now_ms()
            with self._lock:
                self._index.trashed_by(now_ms)
            self._empty_trash(now_ms - TRASH_MS)
            with self._lock:
                live, sizes = self._index.logs(), dict(self._sizes)
            for log in sizes.keys() - live.keys():
                self._remove_empty(log)  # first, for on a full disk there may be no room to move anything to
            for log in sorted(sizes.keys() & live.keys(), key=lambda log: live[log].live):
                if log != self._active and 2 * live[log].live < sizes[log] and self._may_move(live[log].live):
                    self._move(log)
            with self._lock, self._disk():
                self._beside = self._found_beside()

    def done(self, row: Row, *, kept: bool) -> None:
        """An upload is over. For `Incoming`."""
        with self._lock:
            self._coming.discard(row.id)
            if not kept:
                self._give_up(row)
                return
            try:
                self._index.put([row._replace(stored_ms=self._now_ms())])
            except FallowError as error:
                self._give_up(row)
                if error.code == "storage.disk_failing":
                    self._failed = error.message  # else each further piece would come whole, to be refused then
                raise
            self._writers[row.log] -= 1

    def broke(self, error: OSError) -> Unavailable:
        """Remember that the disk made an error, so that nothing new is put there."""
        if error.errno not in PASSING:
            self._failed = error.strerror or str(error)
        return failing(error.strerror or str(error))

    def _here(self, piece: bytes) -> Row:
        row = self._index.find(piece)
        if row is None or row.trashed_ms is not None:
            raise NotFound("storage.no_piece", "This node does not have that piece.")
        return row

    def _set_aside(self, length: int) -> tuple[int, int]:
        """Make room at the end of the active log file, or of a new one where it would become too long.

        So one that is moved is never longer than a log file may be: longer is only one that a single piece fills. A
        piece without bytes takes one, too: else its place would go with the one before it, if that is given back.
        """
        length = max(1, length)
        size = self._sizes.get(self._active)
        if size is None or (size and size + length > self._log_bytes):
            self._active = max(self._sizes, default=0) + 1
        log, start = self._active, self._sizes.get(self._active, 0)
        try:
            self._lengthen(log, start, length)
        except OSError as error:
            if error.errno in FULL:
                raise TooMuch("storage.full", "The node's disk is full.", "Take another node.") from error
            raise self.broke(error) from error
        self._sizes[log] = start + length
        self._writers[log] = self._writers.get(log, 0) + 1
        return log, start

    def _lengthen(self, log: int, start: int, length: int) -> None:
        handle = os.open(self._path(log), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.posix_fallocate(handle, start, length)
            if self._durable and log not in self._sizes:
                os.fsync(self._guard)  # a file's name is the folder's, and synced with that
        except OSError:
            os.ftruncate(handle, start)
            raise
        finally:
            os.close(handle)

    def _give_up(self, row: Row) -> None:
        """Give a place back that nothing came to; behind it may be others already, then it stays a hole."""
        self._writers[row.log] -= 1
        if row.start + max(1, row.length) == self._sizes[row.log]:
            with self._disk():
                os.truncate(self._path(row.log), row.start)
            self._sizes[row.log] = row.start

    def _empty_trash(self, before_ms: int) -> None:
        """Some at a time, since others wait meanwhile."""
        more = True
        while more:
            with self._lock:
                more = self._index.drop_trash(before_ms)

    def _found_beside(self) -> int:
        """Look at the disk: what the folder takes beside what is counted, such as its mark, and files of others."""
        found = sum(
            allocated(Path(at, name)) for at, folders, files in os.walk(self._folder) for name in (*folders, *files)
        )
        return max(0, allocated(self._folder) + found - self._counted)

    def _may_move(self, size: int) -> bool:
        """Whether that crosses no limit which is kept now: a log file may be from before it was lowered."""
        with self._lock, self._disk():
            used = self.used_bytes
        return not self._failed and not used <= self._limit < used + size

    def _move(self, log: int) -> None:
        """Move a log's pieces behind those of the active one, some at a time, and remove it."""
        with self._lock:
            rows = self._index.of_log(log)
        for at in range(0, len(rows), MOVED_AT_ONCE):
            moved: list[Row] = []
            try:
                self._copy_all(rows[at : at + MOVED_AT_ONCE], moved)
            except FallowError:
                with self._lock:
                    for row in reversed(moved):
                        self._give_up(row)
                raise
            with self._lock:
                for row in moved:
                    self._writers[row.log] -= 1
                self._index.move(moved, log)
        self._remove_empty(log)

    def _copy_all(self, rows: Iterable[Row], moved: list[Row]) -> None:
        """Copy pieces to other places, which are noted in `moved` as soon as they are set aside."""
        for row in rows:
            with self._lock:
                to, start = self._set_aside(row.length)
            moved.append(row._replace(log=to, start=start))
            self._copy(row, moved[-1])
        for to in {row.log for row in moved}:
            self._sync(to)

    def _copy(self, row: Row, to: Row) -> None:
        source, target = self._opened(row.log, os.O_RDONLY), self._opened(to.log, os.O_WRONLY)
        try:
            with self._disk():
                for at in range(0, row.length, COPY_BYTES):
                    wanted = min(COPY_BYTES, row.length - at)
                    _whole(os.pwrite(target, os.pread(source, wanted, row.start + at), to.start + at), wanted)
        finally:
            os.close(source)
            os.close(target)

    def _blank(self, row: Row) -> None:
        handle = self._opened(row.log, os.O_WRONLY)
        try:
            with self._disk():
                for at in range(0, row.length, COPY_BYTES):
                    os.pwrite(handle, bytes(min(COPY_BYTES, row.length - at)), row.start + at)
                os.fdatasync(handle)
        finally:
            os.close(handle)

    def _remove_empty(self, log: int) -> None:
        with self._lock:
            if not self._writers.get(log) and not self._index.of_log(log):
                with self._disk():
                    self._path(log).unlink(missing_ok=True)
                self._sizes.pop(log, None)
                self._writers.pop(log, None)

    def _sync(self, log: int) -> None:
        handle = self._opened(log, os.O_WRONLY)
        try:
            with self._disk():
                os.fdatasync(handle)
        finally:
            os.close(handle)

    def _require_index(self) -> None:
        """Without the index all log files would be taken for what a crash left behind, and be removed."""
        if any(self._folder.glob(LOGS)) and not (self._folder / FILES[0]).exists():
            raise Unavailable(
                "storage.disk_failing",
                f"The index of the pieces in {self._folder} is gone.",
                "Put its files back (index, index-wal), or lend another folder.",
            )

    def _recovered(self) -> dict[int, int]:
        """Drop pieces whose bytes are gone, and cut off what no piece is known of; returns the size of each log file.

        A power failure may take the end of one, or all of it, where it is not durable, or leave places that were set
        aside and never written. Where it is, the disk has lost what it said it had, and gets nothing new.
        """
        found = {int(path.stem): path.stat().st_size for path in self._folder.glob(LOGS)}
        lost = [row for log, known in self._index.logs().items() for row in self._lost(log, known.end)]
        if lost:
            _log.warning("storage: the bytes of %d pieces in %s are gone: they are lost", len(lost), self._folder)
            self._index.drop([row.id for row in lost])
            self._failed = f"it has lost {len(lost)} pieces that were synced" if self._durable else ""
        known, sizes = self._index.logs(), {}
        for log in found:
            if log in known:
                os.truncate(self._path(log), known[log].end)
                sizes[log] = known[log].end
            else:
                self._path(log).unlink()
        return sizes

    def _lost(self, log: int, end: int) -> list[Row]:
        """Pieces of a log file whose bytes are not there."""
        size, holes = _laid(self._path(log))
        rows = self._index.of_log(log) if holes or end > size else []
        ends = [hole.stop for hole in holes]
        return [
            row
            for row in rows
            if row.start + row.length > size or (_is_in(row, holes, ends) and not self._is_whole(row))
        ]

    def _is_whole(self, row: Row) -> bool:
        """Whether a piece is what came: some file systems keep zeros that were written as holes."""
        hashed, handle = blake3(), self._opened(row.log, os.O_RDONLY)
        try:
            for at in range(0, row.length, COPY_BYTES):
                hashed.update(os.pread(handle, min(COPY_BYTES, row.length - at), row.start + at))
        finally:
            os.close(handle)
        return hashed.digest() == row.hash

    @contextmanager
    def _disk(self) -> Iterator[None]:
        """Raise `storage.disk_failing` where the disk makes an error."""
        try:
            yield
        except OSError as error:
            raise self.broke(error) from error

    def _opened(self, log: int, how: int) -> int:
        with self._disk():
            return os.open(self._path(log), how | os.O_CLOEXEC | os.O_NOFOLLOW)

    def _path(self, log: int) -> Path:
        return self._folder / f"{log:08d}.log"


def _locked(folder: Path) -> int:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise Conflict("storage.busy", f"Another process keeps pieces in {folder}.") from error
    return handle


def _laid(path: Path) -> tuple[int, list[range]]:
    """How long a log file is (-1: it is not there), and what of it was never written, as far as its disk can say."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return -1, []
    try:
        size, holes, at = os.fstat(handle).st_size, list[range](), 0
        while at < size and (start := os.lseek(handle, at, os.SEEK_HOLE)) < size:
            at = _data_behind(handle, start, size)
            holes.append(range(start, at))
        return size, holes
    finally:
        os.close(handle)


def _data_behind(handle: int, start: int, size: int) -> int:
    try:
        return os.lseek(handle, start, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return size


def _is_in(row: Row, holes: Sequence[range], ends: Sequence[int]) -> bool:
    """Whether a byte of a piece is in one of these holes, which stand in their order and end there."""
    at = bisect_right(ends, row.start)
    return bool(row.length) and at < len(holes) and holes[at].start < row.start + row.length


def _whole(moved: int, wanted: int) -> None:
    if moved != wanted:
        raise OSError(errno.EIO, "a piece could not be copied whole")


def _blocks(size: int) -> int:
    """Bytes that a file of this size takes, in blocks of 4 KiB."""
    return -(-size // 4096) * 4096
