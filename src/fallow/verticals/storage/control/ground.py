"""What all that keeps objects stands on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol

from fallow.domain.prices import Offer
from fallow.ports.clock import Clock
from fallow.ports.database import Database
from fallow.verticals.storage.control.keeping import Keeping
from fallow.verticals.storage.control.segments_port import Segments

Kind = Literal["put", "get", "list"]
"""Requests as they are billed."""


class May(Protocol):
    """Whether an account may have buckets, or keep more in them."""

    async def __call__(self, account: str) -> None:
        """Return when it may.

        Raises:
            InsufficientFunds: `storage.no_subscription`; where it is to keep more `storage.suspended`, too.
        """
        ...


class Count(Protocol):
    """Counts requests."""

    def __call__(self, account: bytes, bucket_id: int, kind: Kind) -> None:
        """Count one request to a bucket of an account."""
        ...


class Ground(NamedTuple):
    """The parts outside."""

    database: Database
    segments: Segments
    clock: Clock
    may_open: May
    may_use: May
    counted: Count
    keeping: Keeping
    random_bytes: Callable[[int], bytes]
    offers: Sequence[Offer] = ()
