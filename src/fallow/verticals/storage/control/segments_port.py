"""What those who keep versions ask of those who keep segments, in the transaction of a version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fallow.ports.database import Transaction


class Segments(Protocol):
    """The bytes of versions, by bucket and stream."""

    async def stored_bytes(self, tx: Transaction, bucket_id: int, stream: bytes, part: int | None) -> int:
        """Return the payload of its finished segments, indexes without gaps; 0 when there are none.

        Raises:
            InvalidInput: there are too many for so few bytes (`storage.crumbs`).
        """
        ...

    async def adopt(self, tx: Transaction, bucket_id: int, stream: bytes, into: bytes, part: int) -> None:
        """Make the segments of `stream` (part 0) part `part` of stream `into`."""
        ...

    async def drop(self, tx: Transaction, bucket_id: int, streams: Sequence[bytes], *, purge: bool) -> None:
        """Make all segments of these streams garbage from now on."""
        ...

    async def drop_parts(self, tx: Transaction, bucket_id: int, stream: bytes, keep: Sequence[int] | None) -> None:
        """Make all parts of a stream but these garbage."""
        ...
