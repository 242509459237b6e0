"""What the reserve pays for work that was lost, pure: DESIGN rule 8, bounded in the manner of rule 9.

A provider whose work was lost without a fault of his, as when his owner took the machine back politely, is paid for it;
a buyer gets back what results cost him that decided nothing.

Each micro-US-dollar of a fee counts for one account, in its credit class: half of it for the provider whose use paid
it, half for the buyer who paid it; but for what incentives may reach of it (`FeePolicy.returnable`), which counts for
nobody. What the reserve pays on an account, and what the network pays for checks of a buyer's work
(`fallow.domain.checks`), never exceeds together what counts for it. So whoever takes his machine back for
ever, has results disagree on purpose or check each other, or buys from himself gets, with all who are in league with
him, no more out than was paid in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fallow.domain.billing import FeePolicy, cumulative_charge

TallyKey = tuple[bytes, int]
"""An account and a credit class."""

EXHAUSTED, NOT_EARNED = "reserve.exhausted", "reserve.not_earned"


class Tally(NamedTuple):
    """Micro-US-dollars: the fees that count for an account, and what was paid on it, or is held for a check of it."""

    fees: int = 0
    covered: int = 0

    @property
    def left(self) -> int:
        """What may still be paid on it."""
        return max(0, self.fees - self.covered)


class Cover(NamedTuple):
    """What the reserve gives, by credit class, and why not more; "" when it gives all."""

    parts: tuple[tuple[int, int], ...]
    short: str

    @property
    def total(self) -> int:
        """All classes together."""
        return sum(amount for _, amount in self.parts)


def halves(fee: int, reserve: int) -> tuple[int, int]:
    """What of a fee, and of the reserve's part of it, counts for the buyer and for the provider.

    The buyer's half lies in the purse that checks are paid from, so that what counts for all buyers is there.
    """
    buyers = min(-(-(fee + reserve) // 2), fee)
    return buyers, fee + reserve - buyers


def lost_microusd(price_microusd_per_hour: int, lost_ms: int, fee: FeePolicy) -> int:
    """What a provider would have earned with work that was lost."""
    return cumulative_charge(price_microusd_per_hour * lost_ms, fee).provider


def cover(
    amount: int, parts: Sequence[tuple[int, int]], reserve: Mapping[int, int], earned: Mapping[int, int]
) -> Cover:
    """Take `amount` from the reserve, in the credit classes of `parts`, those that are spent last first.

    `reserve` is what it holds and `earned` what it may pay on the accounts that it pays for, both by class.
    """
    taken: list[tuple[int, int]] = []
    short = ""
    for credit, part in reversed(parts):
        wanted, may = min(amount, part), earned.get(credit, 0)
        given = max(0, min(wanted, may, reserve.get(credit, 0)))
        if given < wanted:
            short = NOT_EARNED if given == max(0, may) else EXHAUSTED
        if given:
            taken.append((credit, given))
        amount -= wanted
    return Cover(tuple(taken), short)


class Use(NamedTuple):
    """What the reserve paid about leases of one provider that ended for one reason: to their buyers, and to him."""

    account: bytes
    reason: str
    leases: int
    refunded: int
    made_good: int
