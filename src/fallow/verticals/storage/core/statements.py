"""What the network says of a node to its owner, signed: how it stands, what counts on it, what it has earned. Pure."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from fallow.domain.billing import PPM
from fallow.domain.facts import NodeId
from fallow.domain.records import Count
from fallow.domain.signing import Signed
from fallow.verticals.storage.core.tariff import DAY_MS, EGRESS, HOUR_MS, STORED, TARIFF


class Statement(Signed, frozen=True, kw_only=True):
    """Of a node, at a time. Scores are millionths; months are those of the calendar, in UTC.

    `stored_bytes` is what the network counts on the node, which deleted pieces in the trash are not.
    `stored_byte_hours`, `egress_bytes` (for buyers) and `repair_bytes` (for the network's own repairs and moves, which
    are not paid yet) are those since `month_ms`. `earned_microusd` is what they come to at the tariff, after the
    network's fee; `expected_microusd` what the whole month does if it goes on like that.
    """

    tag: ClassVar[str] = "fallow/storage-statement/1"
    net: str
    node: NodeId
    at_ms: Count
    standing: str
    exit: str
    audits: Count
    score_ppm: Count
    unknown_ppm: Count
    online_ppm: Count
    stored_bytes: Count
    month_ms: Count
    stored_byte_hours: Count
    egress_bytes: Count
    repair_bytes: Count
    earned_microusd: Count
    expected_microusd: Count


class Month(NamedTuple):
    """A calendar month in UTC, in milliseconds since 1970."""

    since_ms: int
    until_ms: int

    @property
    def first_day(self) -> int:
        """Days since 1970."""
        return self.since_ms // DAY_MS


class Use(NamedTuple):
    """What a node is paid for."""

    stored_byte_hours: int
    egress_bytes: int

    def earned_microusd(self, fee_ppm: int) -> int:
        """What a node gets for it where the network keeps so many millionths of the tariff; rounded down."""
        return sum(
            TARIFF[meter].microusd * quantity * (PPM - fee_ppm) // (TARIFF[meter].per * PPM)
            for meter, quantity in zip((STORED, EGRESS), self, strict=True)
        )


def expected_use(month: Month, now_ms: int, stored_bytes: int, so_far: Use) -> Use:
    """What a whole month, in which it is now, comes to.

    What is stored now stays; reads go on as they did since the month's begin, once a day of it is over.
    """
    left_hours = (month.until_ms - now_ms) // HOUR_MS
    elapsed = now_ms - month.since_ms
    read = so_far.egress_bytes
    whole = read * (month.until_ms - month.since_ms) // elapsed if elapsed >= DAY_MS else read
    return Use(so_far.stored_byte_hours + stored_bytes * left_hours, whole)
