"""What a subscription to storage costs: by the bytes of pieces on nodes, and by the bytes that come from there.

That is so until operators of a network say otherwise. Nodes get $1.50 for a terabyte (10**12 bytes) that they hold for
720 hours, and $2 for a terabyte that they send, as Storj pays them (its docs, node/payouts); what they take in is free.
Buyers pay so much that this is left after a network's fee of a tenth, as it is by default; where that is another one,
nodes get more, or less. Payload costs by its profile: with 29 of 80 pieces a terabyte of objects is 2.76 of pieces, so
$4.60 a month.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from fallow.domain.prices import GB_BYTES as GB
from fallow.domain.prices import MONTH_HOURS as PRICED_HOURS
from fallow.domain.prices import NANO_DIGITS, Offer
from fallow.domain.subscriptions import Price, Tariff
from fallow.domain.tariffs import Unit

VERTICAL: Final = "storage"
STORED: Final = "stored_byte_hours"
EGRESS: Final = "egress_bytes"
REPAIRED: Final = "repair_bytes"
"""What the network reads for its repairs: shown, and paid by nobody yet."""

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
TERABYTE: Final = 10**12
MONTH_HOURS: Final = 720
NANO: Final = 1000
"""Billionths of a dollar in a micro-US-dollar."""

TARIFF: Final[Tariff] = {
    STORED: Price(microusd=1_500_000, per=TERABYTE * MONTH_HOURS * 9 // 10),
    EGRESS: Price(microusd=2_000_000, per=TERABYTE * 9 // 10),
}


UNITS: Final[Mapping[str, Unit]] = {
    STORED: Unit(
        TERABYTE * MONTH_HOURS,
        {"en": "a terabyte of pieces for 720 hours", "ja": "断片 1 テラバイトを 720 時間"},
    ),
    EGRESS: Unit(TERABYTE, {"en": "a terabyte that nodes send", "ja": "ノードが送る 1 テラバイト"}),
}
"""Of the 29 of 80 pieces that are usual a terabyte of objects is 2.76 of pieces."""


FINE: Final = 10**36
"""Parts of a micro-US-dollar in which sums over many short times are kept, so that none of them rounds."""


class Rates(NamedTuple):
    """What a byte and millisecond, and a byte that is read, cost: in `FINE` parts, rounded up."""

    stored: int
    egress: int


def rates_of(tariff: Tariff) -> Rates:
    """A tariff by the byte."""
    stored, egress = tariff[STORED], tariff[EGRESS]
    return Rates(-(-stored.microusd * FINE // (stored.per * HOUR_MS)), -(-egress.microusd * FINE // egress.per))


def offered(tariff: Tariff, expansion: float) -> Offer:
    """A tariff in the terms of the price file, for objects that take `expansion` bytes of pieces a byte."""
    stored = tariff[STORED].microusd * NANO * GB * PRICED_HOURS * expansion / tariff[STORED].per
    egress = tariff[EGRESS].microusd * NANO * GB / tariff[EGRESS].per
    return Offer(
        name=VERTICAL,
        kind="market",
        source="",
        as_of="",
        storage_gb_month_usd=_usd(round(stored)),
        egress_gb_usd=_usd(round(egress)),
    )


def _usd(nano: int) -> str:
    return f"{nano // 10**NANO_DIGITS}.{nano % 10**NANO_DIGITS:0{NANO_DIGITS}}"
