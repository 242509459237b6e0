"""Blobs in memory, for tests and simulations."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

from fallow.adapters.blobs import PIECE_BYTES, check_hash, check_name, missing, pieces


class MemoryBlobs:
    """The `Blobs` port on a dictionary."""

    def __init__(self) -> None:
        self._blobs: dict[tuple[str, str], bytes] = {}

    async def put(self, owner: str, sha256: str, chunks: AsyncIterator[bytes], *, bytes_max: int) -> int:
        """See the port; errors `blob.name`, `blob.hash`, `blob.too_large`."""
        check_name(owner, sha256)
        data = b"".join([piece async for piece in pieces(chunks, bytes_max)])
        check_hash(sha256, hashlib.sha256(data).hexdigest())
        self._blobs[owner, sha256] = data
        return len(data)

    async def size(self, owner: str, sha256: str) -> int:
        """See the port; errors `blob.name`, `blob.missing`."""
        return len(self._find(owner, sha256))

    async def get(self, owner: str, sha256: str, *, start: int = 0) -> AsyncIterator[bytes]:
        """See the port; errors `blob.name`, `blob.missing`."""
        data = self._find(owner, sha256)
        for at in range(start, len(data), PIECE_BYTES):
            yield data[at : at + PIECE_BYTES]

    def _find(self, owner: str, sha256: str) -> bytes:
        check_name(owner, sha256)
        try:
            return self._blobs[owner, sha256]
        except KeyError:
            raise missing(sha256) from None
