"""Buyers' bundles, unpacked without trusting them, and kept for the next run."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import stat
import struct
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Final

from fallow.domain.errors import InvalidInput, NotAllowed, TooMuch

ENTRIES_MAX: Final = 50_000
INDEX_BYTES_MAX: Final = 6 << 20
"""The archive's list of files is read as a whole: longer than this it could fill this process's memory."""
NAME_BYTES_MAX: Final = 500
PART_BYTES_MAX: Final = 255
"""Longer names no file system of Linux takes (NAME_MAX), which would look like a fault of the machine's."""
DEPTH_MAX: Final = 32
UNPACKED_BYTES_MAX: Final = 4 << 30
_PIECE: Final = 1 << 20
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


class Bundles:
    """Unpacked bundles by their archives' SHA-256, at most about `bytes_max` of them when none is in use."""

    def __init__(self, folder: Path, bytes_max: int) -> None:
        self._folder = folder
        self._bytes_max = bytes_max
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: dict[str, int] = {}

    @asynccontextmanager
    async def unpacked(
        self, sha256: str, fetch: Callable[[Path], Awaitable[None]], *, bytes_max: int
    ) -> AsyncIterator[Path]:
        """Hold the folder of a bundle; `fetch` writes the archive to a path when it is not here yet.

        Raises:
            InvalidInput, TooMuch: see `unpack`. Whatever `fetch` raises.
            NotAllowed: others can write to the folder that keeps bundles.
        """
        folder = self._folder / sha256
        self._users[sha256] = self._users.get(sha256, 0) + 1
        try:
            async with self._locks.setdefault(sha256, asyncio.Lock()):
                if not folder.is_dir():
                    await asyncio.to_thread(self._make_room)
                    await self._make(folder, fetch, bytes_max)
            await asyncio.to_thread(os.utime, folder)
            yield folder
        finally:
            self._users[sha256] -= 1
            if not self._users[sha256]:
                del self._users[sha256], self._locks[sha256]

    async def _make(self, folder: Path, fetch: Callable[[Path], Awaitable[None]], bytes_max: int) -> None:
        archive, partial = folder.with_suffix(".zip"), folder.with_suffix(".partial")
        await asyncio.to_thread(_remove, archive)  # left behind where this process was killed
        await asyncio.to_thread(_remove, partial)
        try:
            await fetch(archive)
            await asyncio.to_thread(unpack, archive, partial, bytes_max=bytes_max)
            await asyncio.to_thread(partial.rename, folder)
        finally:
            await asyncio.to_thread(_remove, archive)
            await asyncio.to_thread(_remove, partial)

    def _make_room(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = self._folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & _OTHERS_WRITE:
            raise NotAllowed(
                "compute.cache_not_private",
                f"Others can write to {self._folder}, where buyers' programs are kept.",
                "Give the folder to this user and remove the write permission of others.",
            )
        found = []
        for folder in self._folder.iterdir():
            if folder.name.partition(".")[0] not in self._users:
                size = sum(path.lstat().st_size for path in (folder, *folder.rglob("*")))
                found.append((folder.stat().st_mtime, size, folder))
        excess = sum(size for _, size, _ in found) - self._bytes_max
        for _, size, folder in sorted(found):
            if excess <= 0:
                break
            _remove(folder)
            excess -= size


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def unpack(archive: Path, folder: Path, *, bytes_max: int) -> None:
    """Unpack a ZIP archive into a new folder that anybody may read and nobody may run files of by mistake.

    Only plain files and folders with plain names come out, and never more than `bytes_max` bytes.

    Raises:
        InvalidInput: it is no such archive, or holds something else: links, devices, names that lead out of it.
        TooMuch: too many files, or too many bytes, whatever its list of files says.
    """
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    left = min(bytes_max, UNPACKED_BYTES_MAX)
    try:
        with archive.open("rb") as file:
            _check_index(file)
            with zipfile.ZipFile(file) as source:
                for entry in source.infolist():
                    left -= _unpack_one(source, entry, folder, left)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError, struct.error) as error:
        raise InvalidInput("compute.bundle", f"The bundle is not a sound ZIP archive: {error}.") from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise InvalidInput("compute.bundle", "The bundle has two entries of one name.") from error


def _check_index(file: IO[bytes]) -> None:
    """Look at what the archive says at its end, before zipfile reads its whole list of files."""
    end = zipfile._EndRecData(file)  # type: ignore[attr-defined]  # noqa: SLF001 - the one reader of it that zipfile uses
    if end is None:
        raise InvalidInput("compute.bundle", "The bundle is not a ZIP archive.")
    entries, index_bytes = end[4], end[5]
    if entries > ENTRIES_MAX or index_bytes > INDEX_BYTES_MAX:
        raise TooMuch("compute.bundle_too_large", f"The bundle has more than {ENTRIES_MAX} files.")


def _unpack_one(source: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path, left: int) -> int:
    """Unpack one entry and return how many bytes it has."""
    target = folder / _checked(entry)
    if entry.is_dir():
        target.mkdir(mode=0o755, parents=True, exist_ok=True)
        return 0
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    written = 0
    try:
        with source.open(entry) as packed, target.open("xb") as file:
            while piece := packed.read(_PIECE):
                written += len(piece)
                if written > left:
                    raise TooMuch("compute.bundle_too_large", "The bundle has more bytes than its lease may hold.")
                file.write(piece)
    except RuntimeError as error:  # how zipfile says that it wants a password
        raise InvalidInput("compute.bundle", f"The bundle cannot be unpacked: {error}.") from error
    except OSError as error:
        with contextlib.suppress(ValueError):
            if error.errno is None:  # zlib's and bz2's own complaints
                raise InvalidInput("compute.bundle", f"The bundle is damaged: {error}.") from error
        raise
    target.chmod(0o644)
    return written


def _checked(entry: zipfile.ZipInfo) -> PurePosixPath:
    """The entry's path inside the bundle."""
    name = entry.filename
    path = PurePosixPath(name)
    kind = stat.S_IFMT(entry.external_attr >> 16)
    plain = (
        path.parts
        and not path.is_absolute()
        and ".." not in path.parts
        and "\\" not in name
        and name.isprintable()
        and len(name.encode(errors="replace")) <= NAME_BYTES_MAX
        and len(path.parts) <= DEPTH_MAX
        and all(len(part.encode(errors="replace")) <= PART_BYTES_MAX for part in path.parts)
    )
    if not plain:
        raise InvalidInput("compute.bundle", f"The bundle has an entry of the name {name[:100]!a}, which is refused.")
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
        raise InvalidInput("compute.bundle", f"The bundle's entry {name[:100]!a} is no plain file.")
    return path
