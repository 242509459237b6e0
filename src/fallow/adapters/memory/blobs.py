"""Blobs in memory, for tests and simulations."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable

from fallow.adapters.blobs import PIECE_BYTES, check_hash, check_name, missing, pieces
from fallow.ports.blobs import Stored


class MemoryBlobs:
    """The `Blobs` port on a dictionary."""

    def __init__(self, now_ms: Callable[[], int] = lambda: 0) -> None:
        self._blobs: dict[tuple[str, str], bytes] = {}
        self._used: dict[tuple[str, str], int] = {}
        self._now_ms = now_ms

    async def put(self, owner: str, sha256: str, chunks: AsyncIterator[bytes], *, bytes_max: int) -> int:
        """See the port; errors `blob.name`, `blob.hash`, `blob.too_large`."""
        check_name(owner, sha256)
        data = b"".join([piece async for piece in pieces(chunks, bytes_max)])
        check_hash(sha256, hashlib.sha256(data).hexdigest())
        self._blobs[owner, sha256] = data
        self._used[owner, sha256] = self._now_ms()
        return len(data)

    async def size(self, owner: str, sha256: str) -> int:
        """See the port; errors `blob.name`, `blob.missing`."""
        size = len(self._find(owner, sha256))
        self._used[owner, sha256] = self._now_ms()
        return size

    async def get(self, owner: str, sha256: str, *, start: int = 0) -> AsyncIterator[bytes]:
        """See the port; errors `blob.name`, `blob.missing`."""
        data = self._find(owner, sha256)
        for at in range(start, len(data), PIECE_BYTES):
            yield data[at : at + PIECE_BYTES]

    async def stored(self) -> AsyncIterator[Stored]:
        """See the port."""
        for (owner, sha256), data in list(self._blobs.items()):
            yield Stored(owner, sha256, len(data), self._used[owner, sha256])

    async def remove(self, owner: str, sha256: str, *, unused_since: int) -> bool:
        """See the port."""
        if self._used.get((owner, sha256), unused_since) >= unused_since:
            return False
        del self._blobs[owner, sha256], self._used[owner, sha256]
        return True

    def _find(self, owner: str, sha256: str) -> bytes:
        check_name(owner, sha256)
        try:
            return self._blobs[owner, sha256]
        except KeyError:
            raise missing(sha256) from None
