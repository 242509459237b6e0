"""Inputs of leases, kept for the next lease that needs them. It may be deleted at any time."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from fallow.domain.errors import TooMuch, Unavailable

Download = Callable[[str, Path, int], Awaitable[None]]
"""Write the blob with this hash to this path, which is not there yet; TooMuch over so many bytes."""

ATTEMPTS_MAX = 3
CHUNK_BYTES = 1 << 20


class InputCache:
    """Files by (owner, hash) under `folder`, together at most about `bytes_max`; the longest unused go first."""

    def __init__(self, folder: Path, bytes_max: int) -> None:
        self._folder = folder
        self._parts = folder / "parts"
        self._bytes_max = bytes_max
        self._busy: dict[Path, _Busy] = {}
        shutil.rmtree(self._parts, ignore_errors=True)
        self._parts.mkdir(mode=0o700, parents=True)

    async def copy(self, owner: str, sha256: str, to: Path, download: Download, *, bytes_max: int) -> int:
        """Write a blob to `to` and return its size. Leases that need the same one share one download.

        Raises:
            TooMuch: it has more than `bytes_max` bytes.
            Unavailable: it could not be kept here, or what `download` raises.
        """
        path = self._folder / owner / sha256
        for _ in range(ATTEMPTS_MAX):
            async with self._alone(path):
                if not path.exists():
                    await self._fill(path, sha256, download, bytes_max)
            # Between here and there somebody may make room: then it is fetched again.
            size = await asyncio.to_thread(_copy_checked, path, to, sha256, bytes_max)
            if size is not None:
                return size
        raise Unavailable("agent.cache", f"The blob {sha256} does not stay in the cache.", "Give it more room.")

    async def _fill(self, path: Path, sha256: str, download: Download, bytes_max: int) -> None:
        part = self._parts / secrets.token_hex(8)
        try:
            await download(sha256, part, bytes_max)
            await asyncio.to_thread(self._keep, part, path)
        except OSError as error:
            raise Unavailable("agent.disk_full", f"The input could not be written: {error}.") from error
        finally:
            part.unlink(missing_ok=True)

    def _keep(self, part: Path, path: Path) -> None:
        self._make_room(self._bytes_max - part.stat().st_size)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        part.replace(path)

    def _make_room(self, bytes_max: int) -> None:
        found: list[tuple[float, int, Path]] = []
        for path in self._folder.glob("*/*"):
            with suppress(FileNotFoundError):
                status = path.stat()
                if path.parent != self._parts:
                    found.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= bytes_max:
                return
            path.unlink(missing_ok=True)
            total -= size

    @asynccontextmanager
    async def _alone(self, path: Path) -> AsyncIterator[None]:
        """One at a time for each file; nothing is left over when nobody waits."""
        busy = self._busy.setdefault(path, _Busy())
        busy.users += 1
        try:
            async with busy.lock:
                yield
        finally:
            busy.users -= 1
            if not busy.users:
                self._busy.pop(path, None)


class _Busy:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0


def _copy_checked(path: Path, to: Path, sha256: str, bytes_max: int) -> int | None:
    """Copy and check on the way; None, and no file at `to`, when it is gone or damaged.

    A copy and not a link: what runs in the workspace must not be able to change what the next lease gets.
    """
    digest = hashlib.sha256()
    size = 0
    try:
        with path.open("rb") as source, to.open("xb") as target:
            while chunk := source.read(CHUNK_BYTES):
                size += len(chunk)
                if size > bytes_max:
                    to.unlink()
                    raise TooMuch("agent.inputs_too_large", "The inputs are larger than the lease's share of the disk.")
                digest.update(chunk)
                target.write(chunk)
    except FileNotFoundError:
        return None
    except OSError as error:
        to.unlink(missing_ok=True)
        raise Unavailable("agent.disk_full", f"An input could not be written: {error}.") from error
    if digest.hexdigest() != sha256:
        path.unlink(missing_ok=True)
        to.unlink(missing_ok=True)
        return None
    with suppress(FileNotFoundError):
        os.utime(path)
    return size
