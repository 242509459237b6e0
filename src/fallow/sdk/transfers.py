"""Blobs up and down: content-addressed, resumed, and checked by their hash."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO

import httpx2

from fallow.domain.errors import Conflict, FallowError, NotFound, TooMuch
from fallow.sdk.patience import PASSING, Outage
from fallow.sdk.wire import Wire, error_of

PIECE_BYTES = 1 << 20
READ_BYTES_MAX = 256 << 20
BEYOND_MEMORY = "sdk.memory"
BEYOND = frozenset({"blob.range", "archive.range"})
"""All was there already."""

Source = Path | bytes


class BlobCalls(Wire):
    """What a buyer does with his blobs."""

    async def upload(self, source: Source) -> str:
        """Store a file or bytes, unless they are there already, and return their SHA-256 (hex)."""
        sha256 = await asyncio.to_thread(_hash, source)
        if not await self.has(sha256):
            await self._trying(lambda: self._put(sha256, source))
        return sha256

    async def has(self, sha256: str) -> bool:
        """Whether you have stored this blob."""

        async def attempt() -> bool:
            response = await self._http.head(f"/v1/blobs/{sha256}")
            if not response.is_success:
                raise error_of(response, await _explanation(self._http, sha256, response))
            return True

        try:
            return await self._trying(attempt)
        except NotFound:
            return False

    async def download(self, sha256: str, path: Path) -> int:
        """Write a blob to `path`, which has exactly the bytes with that hash afterwards; returns their number.

        Raises:
            NotFound: you have no such blob.
            Conflict: `sdk.hash`, the network sent other bytes; nothing is left at `path`.
        """
        return await self._download(_blob(sha256), sha256, path)

    async def read(self, sha256: str, *, bytes_max: int = READ_BYTES_MAX) -> bytes:
        """Return a blob that fits into memory.

        Raises:
            NotFound, Conflict: as `download`.
            TooMuch: it has more than `bytes_max`.
        """
        sink = _MemorySink(bytes_max)
        await self._fetch(_blob(sha256), sha256, sink)
        return bytes(sink.data)

    async def _put(self, sha256: str, source: Source) -> None:
        response = await self._http.put(f"/v1/blobs/{sha256}", content=_pieces(source), headers=_length(source))
        if not response.is_success:
            raise error_of(response, response.content)

    async def _download(self, where: str, sha256: str, path: Path) -> int:
        """Write what is at `where` to `path`; see `download`."""
        # A name that nothing else has: a program's files may be called anything, and as long as names can be.
        part = path.with_name(f".{secrets.token_hex(8)}.part")
        try:
            with await asyncio.to_thread(part.open, "wb") as file:
                size = await self._fetch(where, sha256, _FileSink(file))
            await asyncio.to_thread(part.replace, path)
        finally:
            part.unlink(missing_ok=True)
        return size

    async def _small(self, where: str, bytes_max: int) -> bytes:
        """Return what is at `where`, by nobody's hash; TooMuch when it has more than `bytes_max`."""

        async def attempt() -> bytes:
            sink = _MemorySink(bytes_max)
            await self._fetch_on(where, sink)
            return bytes(sink.data)

        return await self._trying(attempt)

    async def _fetch(self, where: str, sha256: str, sink: _Sink) -> int:
        """Read to the end. Each attempt goes on where the last one broke off, and only standstill counts."""
        outage = Outage(self._patience)
        while True:
            before = sink.size
            try:
                await self._fetch_on(where, sink)
                break
            except PASSING as error:
                if sink.size > before:
                    outage.over()
                await outage.pause(error)
        if sink.sha256 != sha256:
            raise Conflict("sdk.hash", f"The network sent other bytes than those of {sha256}.", "Tell its operator.")
        return sink.size

    async def _fetch_on(self, where: str, sink: _Sink) -> None:
        headers = {"Accept-Encoding": "identity"}
        if sink.size:
            headers["Range"] = f"bytes={sink.size}-"
        request = self._http.build_request("GET", where, headers=headers)
        try:
            async with self._opened(request) as response:
                if sink.size and response.status_code != httpx2.codes.PARTIAL_CONTENT:
                    sink.restart()
                # Piece by piece as they arrive: what is collected first would be lost when the connection breaks.
                async for piece in response.aiter_bytes():
                    await asyncio.to_thread(sink.add, piece)
        except FallowError as error:
            # It broke off after the last byte and before the end was told.
            if error.code not in BEYOND:
                raise


class _Sink:
    """Where a download goes, with the hash of what came so far."""

    def __init__(self) -> None:
        self.restart()

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def restart(self) -> None:
        self.size = 0
        self._hash = hashlib.sha256()

    def add(self, piece: bytes) -> None:
        self._hash.update(piece)
        self.size += len(piece)


class _FileSink(_Sink):
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        super().__init__()

    def restart(self) -> None:
        super().restart()
        self._file.seek(0)
        self._file.truncate()

    def add(self, piece: bytes) -> None:
        super().add(piece)
        self._file.write(piece)


class _MemorySink(_Sink):
    def __init__(self, bytes_max: int) -> None:
        self.data = bytearray()
        self._bytes_max = bytes_max
        super().__init__()

    def restart(self) -> None:
        super().restart()
        self.data.clear()

    def add(self, piece: bytes) -> None:
        super().add(piece)
        if self.size > self._bytes_max:
            raise TooMuch(BEYOND_MEMORY, f"The blob has more than {self._bytes_max} bytes.", "Download it to a file.")
        self.data += piece


def _blob(sha256: str) -> str:
    return f"/v1/blobs/{sha256}"


def _hash(source: Source) -> str:
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _length(source: Source) -> dict[str, str]:
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    return {"Content-Length": str(size), "Content-Type": "application/octet-stream"}


async def _pieces(source: Source) -> AsyncIterator[bytes]:
    if isinstance(source, bytes):
        for at in range(0, len(source), PIECE_BYTES):
            yield source[at : at + PIECE_BYTES]
        return
    with await asyncio.to_thread(source.open, "rb") as file:
        while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
            yield piece


async def _explanation(http: httpx2.AsyncClient, sha256: str, response: httpx2.Response) -> bytes:
    """HEAD has no body: what is not simply missing is asked again with one."""
    if response.status_code == httpx2.codes.NOT_FOUND:
        return b""
    async with http.stream("GET", f"/v1/blobs/{sha256}") as explained:
        return b"" if explained.is_success else await explained.aread()
