"""Stage shares: what each line of an epoch earned, usage and incentive apart. Pure.

An incentive is bounded by fees that were paid and did not come back (rule 9): what refunds and made good work gave back
is taken off the fees of the line that it was for, in later epochs, too; what the network's own checks cost is taken off
what all fees together may earn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from fallow.domain.epochs.economy import Economy, Pool
from fallow.domain.epochs.lines import LineKey, Tally
from fallow.domain.epochs.rules import Rules
from fallow.domain.epochs.state import Row, amount
from fallow.domain.rewards.oracle import TOKEN_UNITS, tokens_for
from fallow.domain.rewards.split import part, split
from fallow.domain.rewards.usage import Use, caps_of, incentives

SECTION: Final = "core.returned"
"""Its rows in the state: of a line whose fees came back by more than they were, by how much."""

Shares = dict[LineKey, int]
Tallies = Mapping[LineKey, Tally]


def usage_of(tallies: Tallies, rules: Rules) -> Shares:
    """What each line earned in the credits that are paid through."""
    return {key: tally.sum_of(("income", "made_good"), (rules.credit,)) for key, tally in tallies.items()}


def read_returned(carried: Mapping[str, Sequence[Row]]) -> Shares:
    """Read the rows of the state."""
    return {(vertical, node, account): int.from_bytes(value) for vertical, node, account, value in _rows(carried)}


def returned_rows(returned: Shares) -> list[Row]:
    """What is carried."""
    return [[*key, amount(value)] for key, value in sorted(returned.items())]


def fees_that_count(tallies: Tallies, returned: Shares, rules: Rules) -> tuple[dict[LineKey, Use], Shares]:
    """Each line's fees less what came back of them, and by how much more came back than there was."""
    uses: dict[LineKey, Use] = {}
    returned = dict(returned)
    for key, tally in tallies.items():
        back = tally.sum_of(("refunded", "made_good"), rules.pays, bought=True) + returned.pop(key, 0)
        fee = tally.sum_of(("fee",), rules.pays, bought=True)
        if back > fee:
            returned[key] = back - fee
        elif fee:
            attested = sum(tally.attested[credit] for credit in rules.pays)
            uses[key] = Use(fee - back, min(attested, fee - back))
    return uses, returned


def counted(before: Economy, tallies: Tallies, rules: Rules) -> Economy:
    """Add an epoch's fees, and what came back: by refunds, as made good work, and as pay for the network's checks."""
    fees, back = before.fees, before.returned
    for tally in tallies.values():
        fees += tally.sum_of(("fee",), rules.pays, bought=True)
        back += tally.sum_of(("refunded", "made_good"), rules.pays)
        back += tally.sum_of(("income",), rules.pays, bought=False)
    return before._replace(fees=fees, returned=back)


def incentives_of(uses: Mapping[LineKey, Use], scores: Shares, rules: Rules, pool: Pool) -> Shares:
    """The pool over verticals by weight, over their lines by score times fee, no share above its cap: token units."""
    found: Shares = {}
    names = sorted({key[0] for key in uses if key[0]}) if pool.price else []  # subscriptions are of no vertical's lines
    pools = split(pool.units, [rules.weight(name) for name in names])
    for name, units in zip(names, pools, strict=True):
        keys = sorted(key for key in uses if key[0] == name)
        scored = [Use(*(part(fee, scores[key]) for fee in uses[key])) for key in keys]
        caps = caps_of(scored, ppm=rules.cap_ppm, attested_ppm=min(rules.attested_ppm, rules.cap_ppm))
        shares = incentives(units, [tokens_for(cap, pool.price) for cap in caps])
        found |= zip(keys, shares, strict=True)
    return found


def worth(units: int, price: int) -> int:
    """Micro-US-dollars of token units at a price, rounded up."""
    return -(-units * price // TOKEN_UNITS)


def _rows(carried: Mapping[str, Sequence[Row]]) -> Sequence[Row]:
    return carried.get(SECTION, ())
