"""What gateways and operators ask of the network's side of storage, and buyers never can. Pure."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final

from msgspec import Meta

from fallow.verticals.storage.core.calls import Bucket, Call

BUCKETS_AT_ONCE: Final = 3
"""Each with all its settings, 256 KiB: four would not go over the bus in one answer."""


class TakeDue(Call[list[Bucket]], frozen=True, kw_only=True):
    """Take buckets that have this setting, and that nobody took within `every_ms`: whose ever they are.

    Who takes them does what the setting asks for, alone; where he does not come to it, another takes them later.
    """

    name: ClassVar[str] = "bucket.due"
    reply: ClassVar[Any] = list[Bucket]
    setting: str
    every_ms: Annotated[int, Meta(ge=1)]
    limit: Annotated[int, Meta(ge=1, le=BUCKETS_AT_ONCE)] = BUCKETS_AT_ONCE


GATEWAY_CALLS: Final[tuple[type[Call[Any]], ...]] = (TakeDue,)
"""Served on the bus alone."""
