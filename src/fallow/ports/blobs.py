"""Content-addressed bytes, a namespace per account."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple, Protocol


class Stored(NamedTuple):
    """A blob that is there, and when it was last stored or asked for (milliseconds since 1970, to the hour)."""

    owner: str
    sha256: str
    size: int
    used_at: int


class Blobs(Protocol):
    """A blob is named by its owner and by the SHA-256 of its bytes (hex); nobody reads another owner's by its hash."""

    async def put(self, owner: str, sha256: str, chunks: AsyncIterator[bytes], *, bytes_max: int) -> int:
        """Store a blob and return its size. Storing the same one again changes nothing.

        Raises:
            InvalidInput: the bytes have another hash; nothing is stored.
            TooMuch: there are more than `bytes_max`; nothing is stored.
            Unavailable: it was removed just now (`blob.removed`): send it again. Or there is no room (`blob.no_room`).
        """
        ...

    async def size(self, owner: str, sha256: str) -> int:
        """Size in bytes. Who asks means to use it: it counts as used now.

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

    def stored(self) -> AsyncIterator[Stored]:
        """All blobs of all owners, in no order; what comes or goes meanwhile may be among them or not."""
        ...

    async def remove(self, owner: str, sha256: str, *, unused_since: int) -> bool:
        """Remove a blob unless it was used at or after `unused_since` (milliseconds since 1970); whether it is gone.

        Nothing is lost by doing so while the same blob is stored: either it stays, or whoever stores it hears so.
        """
        ...
