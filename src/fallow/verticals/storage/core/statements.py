"""What the network says of a node to its owner, signed: how it stands, what counts on it, what it has earned. Pure."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from fallow.domain.billing import PPM
from fallow.domain.facts import NodeId
from fallow.domain.records import Count
from fallow.domain.signing import Signed
from fallow.verticals.storage.core.tariff import DAY_MS, HOUR_MS, Rates


class Statement(Signed, frozen=True, kw_only=True):
    """Of a node, at a time. Scores are millionths; months are those of the calendar, in UTC.

    `stored_bytes` is what the network counts on the node, which deleted pieces in the trash are not.
    `stored_byte_hours`, `egress_bytes` (for buyers) and `repair_bytes` (for the network's own repairs and moves, which
    are not paid yet) are those since `month_ms`. `earned_microusd` is what is left of them after the network's fee, by
    what buyers paid and the fee was at the time; `expected_microusd` what the whole month does if it goes on like that.
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


def expected_more(month: Month, now_ms: int, stored_bytes: int, so_far: Use) -> Use:
    """What the rest of a month, in which it is now, brings.

    What is stored now stays; reads go on as they did since the month's begin, once a day of it is over.
    """
    left_hours = (month.until_ms - now_ms) // HOUR_MS
    elapsed = now_ms - month.since_ms
    read = so_far.egress_bytes
    whole = read * (month.until_ms - month.since_ms) // elapsed if elapsed >= DAY_MS else read
    return Use(stored_bytes * left_hours, whole - read)


def earned(use: Use, rates: Rates, fee_ppm: int) -> int:
    """What an owner gets for it by what buyers pay, in `FINE` parts, where the network keeps so many millionths."""
    cost = use.stored_byte_hours * HOUR_MS * rates.stored + use.egress_bytes * rates.egress
    return cost * (PPM - fee_ppm) // PPM
