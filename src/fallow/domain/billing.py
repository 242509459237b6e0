"""What use costs, as pure functions of cumulative quantities.

Owed = price x cumulative use, floored once per (payer, payee, price version), never per receipt: however the use is
cut into windows, the sum of the charges is the same to the micro-dollar. The fee and the reserve's part of it are
cumulative functions of the same number, so they neither drift.
"""

from __future__ import annotations

from typing import NamedTuple

from fallow.domain.errors import InvalidInput

HOUR_MS = 3_600_000
PPM = 1_000_000


MeterKey = tuple[bytes, bytes, int]
"""Payer, payee, price version: the scope within which charges are floored once."""


class FeePolicy(NamedTuple):
    """The network's fee as parts per million of usage, and the reserve's parts per million of that fee.

    Of the rest of the fee `aside_ppm` parts per million are what incentives may reach: nothing else is paid from them.
    """

    fee_ppm: int = 100_000
    reserve_ppm: int = 200_000
    aside_ppm: int = 0

    def returnable(self, fee: int) -> int:
        """What of a fee checks and the reserve may pay back; what incentives may reach is rounded up."""
        return fee * (PPM - self.aside_ppm) // PPM


class Charge(NamedTuple):
    """Micro-US-dollars: `provider` + `fee` + `reserve` is what the payer pays."""

    provider: int
    fee: int
    reserve: int

    @property
    def total(self) -> int:
        """What the payer pays."""
        return self.provider + self.fee + self.reserve


NOTHING = Charge(0, 0, 0)


def cumulative_charge(price_units: int, policy: FeePolicy, per: int = HOUR_MS) -> Charge:
    """Charge for all use so far. `price_units` is the sum of price times quantity over that use.

    A lease's price is per hour and its quantity in milliseconds; other meters have a price for `per` units.
    """
    total = price_units // per
    fee = total * policy.fee_ppm // PPM
    reserve = fee * policy.reserve_ppm // PPM
    return Charge(total - fee, fee - reserve, reserve)


def charge(price_ms_before: int, price_microusd_per_hour: int, used_ms: int, policy: FeePolicy) -> tuple[int, Charge]:
    """Charge for `used_ms` more. Returns the meter's new `price_ms` and the difference of the cumulative charges.

    Raises:
        InvalidInput: negative price or time.
    """
    if price_microusd_per_hour < 0 or used_ms < 0:
        raise InvalidInput("billing.negative", "Prices and times are not negative.")
    price_ms = price_ms_before + price_microusd_per_hour * used_ms
    before, after = cumulative_charge(price_ms_before, policy), cumulative_charge(price_ms, policy)
    return price_ms, Charge(*(new - old for new, old in zip(after, before, strict=True)))


def deposit(price_microusd_per_hour: int, window_ms: int) -> int:
    """Reserve for a window: an upper bound of every charge for it, whatever the meter held before."""
    return -(-price_microusd_per_hour * window_ms // HOUR_MS)
