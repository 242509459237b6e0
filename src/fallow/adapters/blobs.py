"""Blobs in a folder: one file each, named by its hash, there completely or not at all."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import os
import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import IO

from fallow.adapters.clock import SystemClock
from fallow.domain.errors import InvalidInput, NotFound, TooMuch, Unavailable
from fallow.ports.blobs import Stored
from fallow.ports.files import sync

PIECE_BYTES = 1 << 20
"""How much is hashed, written or read at a time, away from the event loop."""

NOTED_EVERY_MS = 3_600_000
"""How exactly it is known when a blob was last used: a file's time of change is not written at each look."""

_PART = ".part"
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_OWNER = re.compile(r"(?:[0-9a-f]{2}){1,32}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class FolderBlobs:
    """The `Blobs` port on a folder, `root/<owner>/<first two digits>/<sha256>`. Several processes may share it.

    Making one throws away what uploads left behind that a crash cut short.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for leftover in root.glob(f"*/*/*{_PART}"):
            _remove_if_dead(leftover)

    async def put(self, owner: str, sha256: str, chunks: AsyncIterator[bytes], *, bytes_max: int) -> int:
        """See the port; errors `blob.name`, `blob.hash`, `blob.too_large`, `blob.no_room`."""
        path = self._path(owner, sha256)
        try:
            return await self._put(path, sha256, chunks, bytes_max)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            raise Unavailable(
                "blob.no_room", "The network has no room left to store this.", "Its operator can make some."
            ) from error

    async def _put(self, path: Path, sha256: str, chunks: AsyncIterator[bytes], bytes_max: int) -> int:
        part = await asyncio.to_thread(_Part, path)
        try:
            async for piece in pieces(chunks, bytes_max):
                await asyncio.to_thread(part.add, piece)
            check_hash(sha256, part.sha256)
            await asyncio.to_thread(part.keep, path)
        finally:
            part.discard()
        return part.size

    async def size(self, owner: str, sha256: str) -> int:
        """See the port; errors `blob.name`, `blob.missing`."""
        path = self._path(owner, sha256)
        size = await asyncio.to_thread(_use, path)
        if size is None:
            raise missing(sha256)
        return size

    async def get(self, owner: str, sha256: str, *, start: int = 0) -> AsyncIterator[bytes]:
        """See the port; errors `blob.name`, `blob.missing`."""
        path = self._path(owner, sha256)
        try:
            file = await asyncio.to_thread(path.open, "rb")
        except FileNotFoundError:
            raise missing(sha256) from None
        with file:
            await asyncio.to_thread(file.seek, start)
            while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
                yield piece

    async def stored(self) -> AsyncIterator[Stored]:
        """See the port."""
        for folder in await asyncio.to_thread(lambda: sorted(self._root.glob("*/*"))):
            for found in await asyncio.to_thread(_listed, folder):
                yield found

    async def remove(self, owner: str, sha256: str, *, unused_since: int) -> bool:
        """See the port; error `blob.name`."""
        return await asyncio.to_thread(_remove, self._path(owner, sha256), unused_since)

    def _path(self, owner: str, sha256: str) -> Path:
        check_name(owner, sha256)
        return self._root / owner / sha256[:2] / sha256


class _Part:
    """A blob on its way in. Where the blob is there already, it is hashed and not written again."""

    def __init__(self, path: Path) -> None:
        self.size = 0
        self._hash = hashlib.sha256()
        self._file: IO[bytes] | None = None
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Buffered on purpose: its lock makes closing safe while a cancelled upload still writes in its thread.
            self._file = tempfile.NamedTemporaryFile(dir=path.parent, suffix=_PART, delete=False)  # noqa: SIM115
            fcntl.flock(self._file, fcntl.LOCK_EX)

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def add(self, piece: bytes) -> None:
        self._hash.update(piece)
        self.size += len(piece)
        if self._file is not None:
            self._file.write(piece)

    def keep(self, path: Path) -> None:
        """Make it durable under its name.

        Raises:
            Unavailable: it was there, and is no more (`blob.removed`).
        """
        if self._file is None:
            if _use(path) is None:
                raise Unavailable("blob.removed", "The blob was removed just now.", "Send it again.")
            return
        self._file.flush()
        os.fsync(self._file.fileno())
        Path(self._file.name).replace(path)
        # The folder that holds the name, and its parents that may be new: a name is durable when they are.
        for folder in list(path.parents)[:3]:
            sync(folder)

    def discard(self) -> None:
        """Close the file, and remove it unless it was kept."""
        if self._file is not None:
            with suppress(OSError):  # on a full disk closing fails, too, since it writes what is left
                self._file.close()
            Path(self._file.name).unlink(missing_ok=True)


def _use(path: Path) -> int | None:
    """Note that a blob is used, and return its size; None when it is not there."""
    try:
        while True:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH)
                status = os.fstat(file.fileno())
                if status.st_nlink:
                    if SystemClock().now_ms() - status.st_mtime * 1000 > NOTED_EVERY_MS:
                        os.utime(file.fileno())
                    return status.st_size
            # It was removed while its lock was waited for, or another upload of it took its place: look again.
    except FileNotFoundError:
        return None


def _remove(path: Path, unused_since: int) -> bool:
    """Remove a blob that nobody used; under its lock, so that nobody begins to use it meanwhile."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            status = os.fstat(file.fileno())
            if not status.st_nlink or status.st_mtime * 1000 >= unused_since:
                return False  # it was used, or another upload has taken its place
            path.unlink()
            return True
    except (BlockingIOError, FileNotFoundError):
        return False


def _listed(folder: Path) -> list[Stored]:
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if _SHA256.fullmatch(entry.name):
                with suppress(FileNotFoundError):
                    status = entry.stat()
                    used_at = int(status.st_mtime * 1000)
                    found.append(Stored(folder.parent.name, entry.name, status.st_size, used_at))
    return found


def _remove_if_dead(part: Path) -> None:
    """Remove a part that nobody writes: its writer holds a lock on it, which ends with the writer's process."""
    try:
        with part.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.unlink(missing_ok=True)
    except (BlockingIOError, FileNotFoundError):
        pass


def check_name(owner: str, sha256: str) -> None:
    """Raise InvalidInput unless both parts of a blob's name are lower-case hex: they become parts of a path."""
    if _OWNER.fullmatch(owner) is None or _SHA256.fullmatch(sha256) is None:
        raise InvalidInput("blob.name", "A blob is named by its owner and its SHA-256, in lower-case hex digits.")


def check_hash(expected: str, found: str) -> None:
    """Raise InvalidInput unless the bytes have the hash that they were announced with."""
    if found != expected:
        raise InvalidInput("blob.hash", f"The bytes have the SHA-256 {found}, not {expected}.", "Send them again.")


def missing(sha256: str) -> NotFound:
    """Make the error for a blob that is not there."""
    return NotFound("blob.missing", f"There is no blob {sha256}.", "Upload it first.")


async def pieces(chunks: AsyncIterator[bytes], bytes_max: int) -> AsyncIterator[bytes]:
    """Cut a stream into pieces of PIECE_BYTES, the last one shorter.

    Raises:
        TooMuch: there are more than `bytes_max`.
    """
    waiting = bytearray()
    total = 0
    async for chunk in chunks:
        total += len(chunk)
        if total > bytes_max:
            raise TooMuch("blob.too_large", f"The blob has more than the {bytes_max} bytes that are allowed.")
        waiting += chunk
        while len(waiting) >= PIECE_BYTES:
            yield bytes(waiting[:PIECE_BYTES])
            del waiting[:PIECE_BYTES]
    if waiting:
        yield bytes(waiting)
