"""The folder /checkpoint of a run: saved while it runs, and laid out again before the next one.

A checkpoint is the folder as it was at one moment, as a power cut would leave it. The program writes to it meanwhile,
and may swap any name for a link: all is opened by descriptors, and links are never followed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import zipfile
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from fallow.domain.errors import FallowError, InvalidInput, NotAllowed, NotFound, TooMuch
from fallow.domain.leases import CHECKPOINT_UNUSABLE
from fallow.ports.vertical.work import Assignment, Save
from fallow.verticals.compute.worker.bundles import DEPTH_MAX, ENTRIES_MAX, NAME_BYTES_MAX, unpack
from fallow.verticals.compute.worker.course import RunOutcome
from fallow.verticals.compute.worker.transfers import Ended, failed, unless_cancelled
from fallow.verticals.compute.worker.wasm import WasmOutcome

FOLDER: Final = "checkpoint"
LAST_S: Final = 10.0
"""How long the last one may take, when the program has ended before its time."""
_PIECE: Final = 1 << 20
_LONG_AGO: Final = (1980, 1, 1, 0, 0, 0)
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
OutcomeT = TypeVar("OutcomeT", RunOutcome, WasmOutcome)
_log = logging.getLogger(__name__)


class Seen(NamedTuple):
    """A file as it was: any write to it shows."""

    name: str
    inode: int
    size: int
    changed_ns: int


class Checkpoints:
    """The checkpoints of one lease, whose archives have at most `bytes_max` bytes."""

    def __init__(self, workspace: Path, save: Save, bytes_max: int) -> None:
        self._folder = workspace / FOLDER
        self._archive = workspace / "checkpoint.zip"
        self._save = save
        self._bytes_max = bytes_max
        self._used_ms = 0
        self._saved = look(self._folder)  # what is there at the start is saved already

    async def take(self, used_ms: int) -> None:
        """Save the folder if it has changed. What cannot be saved is told in the log: the one before still counts."""
        try:
            packed = await asyncio.to_thread(pack, self._folder, self._archive, self._saved, bytes_max=self._bytes_max)
            if packed is not None:
                # Two clocks are read: the program's end may seem to lie before the last one.
                self._used_ms = max(used_ms, self._used_ms + 1)
                await self._save(self._archive, self._used_ms)
                self._saved = packed
        except (FallowError, OSError) as error:
            _log.warning("a checkpoint could not be saved: %s", error)

    async def keep(self, started: asyncio.Event, every_s: float) -> None:
        """Save again and again, from the program's start on, until cancelled."""
        await started.wait()
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while True:
            await asyncio.sleep(every_s)
            await self.take(round((loop.time() - begun) * 1000))


async def checkpointed(
    assignment: Assignment, every_s: int, bytes_max: int, run: Coroutine[Any, Any, OutcomeT]
) -> OutcomeT:
    """Return what `run` returns, and keep its checkpoints meanwhile: the last one when it had to end too early."""
    if assignment.save is None or not every_s:
        return await run
    checkpoints = Checkpoints(assignment.workspace, assignment.save, bytes_max)
    try:
        async with asyncio.TaskGroup() as group:
            keeping = group.create_task(checkpoints.keep(assignment.started, every_s))
            outcome = await run
            keeping.cancel()
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    if outcome.reason == "cancelled":
        try:
            async with asyncio.timeout(LAST_S):
                await checkpoints.take(outcome.wall_ms)
        except TimeoutError:
            _log.warning("the last checkpoint took longer than %g s", LAST_S)
    return outcome


async def restore(assignment: Assignment, bytes_max: int) -> None:
    """Make the folder, with the checkpoint that an earlier lease has left where there is one.

    Raises:
        Ended: it is not there or broken; or the assignment was cancelled.
    """
    folder = assignment.workspace / FOLDER
    if assignment.resume is None:
        await asyncio.to_thread(folder.mkdir)
    else:
        archive = assignment.workspace / "resume.zip"
        try:
            await unless_cancelled(assignment.cancel, assignment.blobs.fetch(assignment.resume, archive))
            await asyncio.to_thread(unpack, archive, folder, bytes_max=bytes_max)
        except (NotFound, NotAllowed, InvalidInput, TooMuch) as error:
            _log.warning("a checkpoint cannot be used: %s", error)
            raise Ended(CHECKPOINT_UNUSABLE, "nobody") from error
        except (FallowError, OSError) as error:
            _log.warning("a checkpoint could not be fetched: %s", error)
            raise failed(error, "node.fetch_failed") from error
        finally:
            archive.unlink(missing_ok=True)
    await asyncio.to_thread(_make_writable, folder)


def look(folder: Path) -> list[Seen]:
    """The folder's plain files, sorted by name."""
    return [seen for seen, _ in _files(folder)]


def pack(folder: Path, archive: Path, known: list[Seen], *, bytes_max: int) -> list[Seen] | None:
    """Write the folder's plain files to an archive whose bytes follow from theirs alone.

    Returns what is in it; None when that is `known` already, when there is nothing, or when it changed meanwhile.

    Raises:
        TooMuch: they are too many, or larger than `bytes_max` together.
        InvalidInput: a name cannot be kept.
    """
    seen = look(folder)
    if not seen or seen == known:
        return None
    if sum(one.size for one in seen) > bytes_max:
        raise TooMuch("compute.checkpoint", f"The checkpoint has more than {bytes_max >> 20} MiB.")
    written = []
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target:
        for one, fd in _files(folder):
            _add(target, one, fd)
            written.append(one)
    return seen if written == seen == look(folder) else None


def _add(target: zipfile.ZipFile, one: Seen, fd: int) -> None:
    entry = zipfile.ZipInfo(one.name, _LONG_AGO)
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    left = one.size  # a file that grows is not followed
    with target.open(entry, "w", force_zip64=True) as to:
        while left > 0 and (piece := os.read(fd, min(_PIECE, left))):
            to.write(piece)
            left -= len(piece)


def _files(folder: Path) -> Iterator[tuple[Seen, int]]:
    """Plain files and an open descriptor of each, in the order of their names."""
    fd = os.open(folder, _READ | os.O_DIRECTORY)
    try:
        for count, found in enumerate(_below(fd, "", 1)):
            if count >= ENTRIES_MAX:
                raise TooMuch("compute.checkpoint", f"The checkpoint has more than {ENTRIES_MAX} files.")
            yield found
    finally:
        os.close(fd)


def _below(folder: int, prefix: str, depth: int) -> Iterator[tuple[Seen, int]]:
    if depth > DEPTH_MAX:
        raise TooMuch("compute.checkpoint", f"The checkpoint lies more than {DEPTH_MAX} folders deep.")
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries)
    for name in names:
        if not name.isprintable() or "\\" in name or len((prefix + name).encode()) > NAME_BYTES_MAX:
            raise InvalidInput("compute.checkpoint", f"A name in the checkpoint cannot be kept: {name!a}.")
        try:
            fd = os.open(name, _READ, dir_fd=folder)
        except OSError:  # a link, or it is gone: then the folder changes
            continue
        try:
            status = os.fstat(fd)
            if stat.S_ISDIR(status.st_mode):
                yield from _below(fd, f"{prefix}{name}/", depth + 1)
            elif stat.S_ISREG(status.st_mode):
                yield Seen(prefix + name, status.st_ino, status.st_size, status.st_mtime_ns), fd
        finally:
            os.close(fd)


def _make_writable(folder: Path) -> None:
    """The program may be another user outside; nobody else comes as far as here."""
    folder.chmod(0o777)
    for path in folder.rglob("*"):
        path.chmod(0o777 if path.is_dir() else 0o666)
