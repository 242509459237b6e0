"""Content-addressed bytes, a namespace per account."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol


class Blobs(Protocol):
    """A blob is named by its owner and by the SHA-256 of its bytes (hex); nobody reads another owner's by its hash."""

    async def put(self, owner: str, sha256: str, chunks: AsyncIterator[bytes], *, bytes_max: int) -> int:
        """Store a blob and return its size. Storing the same one again changes nothing.

        Raises:
            InvalidInput: the bytes have another hash; nothing is stored.
            TooMuch: there are more than `bytes_max`; nothing is stored.
        """
        ...

    async def size(self, owner: str, sha256: str) -> int:
        """Size in bytes.

        Raises:
            NotFound: there is no such blob of this owner.
        """
        ...

    def get(self, owner: str, sha256: str, *, start: int = 0) -> AsyncIterator[bytes]:
        """Read a blob from byte `start` on.

        Raises:
            NotFound: there is no such blob of this owner.
        """
        ...
