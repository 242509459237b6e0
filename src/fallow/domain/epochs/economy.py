"""What a network knows of its token and of its fees, carried from epoch to epoch. Pure.

The price at which incentives are bounded by fees is pinned ("work_only"), or the guarded median of what sources say
("burn_and_mint"). Without a price that holds nothing is minted in an epoch; everything else goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from fallow.domain.epochs.rules import BURN_AND_MINT, WORK_ONLY, Rules
from fallow.domain.epochs.state import Row, amount
from fallow.domain.errors import Unavailable
from fallow.domain.rewards.oracle import Quote, tokens_for
from fallow.domain.rewards.schedules import NetEmissions

SECTION: Final = "core.economy"
"""Its rows in the state: a name with a dot is the core's, no vertical can have it."""


class Economy(NamedTuple):
    """Sums since the beginning, each never less than nothing.

    Units of the token that were `burned` and `forfeited`, and of the settlement asset (`forfeited_usage`);
    micro-US-dollars, in credits that somebody paid for, of `fees`, of what of them was `returned`, and of incentives
    that were `given` for them.

    `price` is the last that held (micro-US-dollars for 10^18 units; 0: none yet), `smoothed` the smoothed burn.
    """

    burned: int = 0
    forfeited: int = 0
    forfeited_usage: int = 0
    fees: int = 0
    given: int = 0
    price: int = 0
    returned: int = 0
    smoothed: int = 0

    def rows(self) -> list[Row]:
        """What is carried: each of them that is not 0, under its name."""
        return [[name, amount(value)] for name, value in sorted(self._asdict().items()) if value]

    @property
    def left(self) -> int:
        """Fees that did not come back and for which no incentive was given."""
        return max(0, self.fees - self.returned - self.given)


class Pool(NamedTuple):
    """What an epoch may mint for fees, in units of the token, and at which price these count for it (0: none holds).

    `scheduled` is what its schedule gives, whatever was paid.
    """

    units: int
    price: int
    scheduled: int = 0


NO_POOL: Final = Pool(0, 0)


def read_economy(carried: Mapping[str, Sequence[Row]]) -> Economy:
    """Read the rows of the state."""
    return Economy(**{name: int.from_bytes(value) for name, value in carried.get(SECTION, ())})


def pool_of(
    before: Economy, rules: Rules, epoch: int, minted: int, burned: int, quotes: Sequence[Quote], now_ms: int
) -> tuple[Economy, Pool]:
    """Find what epoch number `epoch` (from 0) may mint, after `minted` units before it, when `burned` are burned in it.

    The pool is never worth more than the fees that are left: no incentive is given for what came back.
    """
    smoothed, again = NetEmissions(int.from_bytes(rules.net_cap)).epoch(before.smoothed, burned)
    after = before._replace(burned=before.burned + burned, smoothed=smoothed)
    if rules.model == WORK_ONLY:
        price = rules.price
    elif rules.model == BURN_AND_MINT:
        try:
            price = rules.guard.price(quotes, now_ms, before.price or None)
        except Unavailable:
            return after, NO_POOL
    else:
        return after, NO_POOL
    issued = max(0, minted - after.burned - before.forfeited)
    scheduled = rules.schedule.pool(epoch, issued) if rules.schedule else 0
    units = scheduled + (again if rules.model == BURN_AND_MINT else 0)
    return after._replace(price=price), Pool(min(units, tokens_for(after.left, price)), price, scheduled)
