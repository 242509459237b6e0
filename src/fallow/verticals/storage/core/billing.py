"""What buckets used and cost, added up, and what the same costs elsewhere. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Final

import msgspec

from fallow.domain.prices import Kind, Offer, storage_cost_microusd
from fallow.verticals.storage.core.calls import CALLS
from fallow.verticals.storage.core.calls.accounts import Day, UsedBucket, UsedDay
from fallow.verticals.storage.core.calls.base import Call
from fallow.verticals.storage.core.hosted import GetGateways

LINES_MAX: Final = 1000
"""Of one answer, which goes over the bus."""


class BucketLine(msgspec.Struct, frozen=True, kw_only=True):
    """What one bucket used and cost. A dropped one has no name; `objects` and `bytes` are what it holds now."""

    bucket: str
    id: int
    objects: int
    bytes: int
    stored_byte_hours: int
    payload_byte_hours: int
    egress_bytes: int
    requests: dict[str, int]
    cost_microusd: int


class Elsewhere(msgspec.Struct, frozen=True, kw_only=True):
    """What the same payload, stored and read, costs elsewhere, by that one's published prices."""

    name: str
    kind: Kind
    cost_microusd: int
    as_of: str
    source: str
    note: str


class StorageBill(msgspec.Struct, frozen=True, kw_only=True):
    """What all buckets of an account used between two days (UTC, both counted)."""

    buckets: list[BucketLine]
    cost_microusd: int
    elsewhere: list[Elsewhere]


class GetBill(Call[StorageBill], frozen=True, kw_only=True):
    """What an account's buckets used and cost from one day to another, both counted.

    Each use costs what the subscription pays that it was told to. At most `LINES_MAX` of them are named, those that
    cost most; the sums are of all, and each is rounded down once.
    InvalidInput: `storage.days`.
    """

    name: ClassVar[str] = "bill"
    reply: ClassVar[Any] = StorageBill
    from_day: Day
    to_day: Day


BUYERS_CALLS: Final[tuple[type[Call[Any]], ...]] = (*CALLS, GetBill, GetGateways)


def bill_of(lines: Sequence[BucketLine], cost_microusd: int, offers: Iterable[Offer]) -> StorageBill:
    """Put buckets' lines beside what others ask: by payload, which is what they charge for."""
    payload, egress = sum(line.payload_byte_hours for line in lines), sum(line.egress_bytes for line in lines)
    elsewhere = [
        Elsewhere(
            name=offer.name,
            kind=offer.kind,
            cost_microusd=storage_cost_microusd(offer, payload, egress),
            as_of=offer.as_of,
            source=offer.source,
            note=offer.note,
        )
        for offer in offers
        if offer.sells_storage and (payload or egress)
    ]
    return StorageBill(buckets=[*lines], cost_microusd=cost_microusd, elsewhere=elsewhere)


def line_of(bucket: UsedBucket, used: UsedDay) -> BucketLine:
    """What a bucket used in all days together."""
    return BucketLine(
        bucket=bucket.bucket,
        id=bucket.id,
        objects=bucket.objects,
        bytes=bucket.bytes,
        stored_byte_hours=used.stored_byte_hours,
        payload_byte_hours=used.payload_byte_hours,
        egress_bytes=used.egress_bytes,
        requests=used.requests,
        cost_microusd=used.cost_microusd,
    )
