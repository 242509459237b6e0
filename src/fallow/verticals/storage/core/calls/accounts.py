"""Calls about what an account used, and whom it lets in."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final

import msgspec
from msgspec import Meta

from fallow.domain.records import Count
from fallow.verticals.storage.core.calls.base import Call, Id

USAGE_DAYS_MAX: Final = 400

USAGE_BUCKETS_MAX: Final = 10
"""With so many days: no more go over the bus in one answer."""

LAST_DAY: Final = 2_932_896
"""The last day of the year 9999, which is the last one that there are dates for."""

Day = Annotated[int, Meta(ge=0, le=LAST_DAY)]
"""Since 1970, UTC."""


class UsedDay(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a bucket used on a `day` (since 1970, UTC): bytes of pieces and of payload times hours, bytes read.

    `requests` are counted by kind (put, get, list). `cost_microusd` is by the
    tariff of the subscription that it was told to, rounded down once.
    """

    day: int
    stored_byte_hours: int = 0
    payload_byte_hours: int = 0
    egress_bytes: int = 0
    requests: dict[str, int] = {}
    cost_microusd: int = 0


class UsedBucket(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a bucket used, by day, and the `objects` and `bytes` that it holds now. A dropped one has no name."""

    id: int
    bucket: str = ""
    objects: int = 0
    bytes: int = 0
    days: list[UsedDay] = []


class Usage(Call[list[UsedBucket]], frozen=True, kw_only=True):
    """What buckets of an account used from one day to another, both counted; those behind an id, a page at a time.

    A page holds `USAGE_BUCKETS_MAX`. Buckets that were dropped are there while one of these days is theirs.

    InvalidInput: `storage.days`.
    """

    name: ClassVar[str] = "usage"
    reply: ClassVar[Any] = list[UsedBucket]
    from_day: Day
    to_day: Day
    after: Count = 0


class RevokeGrant(Call[None], frozen=True, kw_only=True):
    """End a grant of the account, by its id, and all that was made of it. Once done it stays done.

    TooMuch: `storage.revoked`: so many are revoked that the API key is to be ended instead, and with it all its grants.
    """

    name: ClassVar[str] = "grant.revoke"
    reply: ClassVar[Any] = None
    grant: Id
