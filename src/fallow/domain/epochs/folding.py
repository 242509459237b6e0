"""The fold: opening state, records and policies give closing state, lines and what everybody is owed. Pure.

Its stages are functions of their own: verify and meter (`judgements`), score, shares, and the root over what is owed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from fallow.domain.epochs.core import Epoch
from fallow.domain.epochs.judgements import read_records
from fallow.domain.epochs.lines import Line, LineKey, Tally
from fallow.domain.epochs.metering import Metering
from fallow.domain.epochs.plugins import score_of
from fallow.domain.epochs.reading import Filed
from fallow.domain.epochs.rules import Rules
from fallow.domain.epochs.state import State
from fallow.domain.rewards.split import part, split
from fallow.domain.rewards.tree import Leaf
from fallow.domain.rewards.usage import Use as Fees
from fallow.domain.rewards.usage import incentives
from fallow.domain.verification import Standing


class Folded(NamedTuple):
    """What follows from an epoch's records. Lines and leaves are in the order of their keys."""

    state: State
    lines: list[Line]
    leaves: list[Leaf]
    totals: dict[str, int]
    errors: Mapping[str, str] = {}
    """What a vertical's policy did first that it must not, by vertical: for its operator's eyes, in no file."""


Shares = dict[LineKey, int]


def fold(
    opening: State, epoch: Epoch, records: Iterable[Filed], rules: Rules, verticals: Mapping[str, Metering]
) -> Folded:
    """Close an epoch."""
    read = read_records(opening, epoch, records, verticals)
    core, errors = read.core, dict(read.errors)
    scores = {
        key: score_of(verticals[key[0]], core.standings.get(key[1], Standing()), epoch.until_ms, errors)
        if key[0]
        else 0
        for key in read.tallies
    }
    usage = usage_of(read.tallies, rules)
    incentive = incentives_of(read.tallies, scores, rules, opening.epochs)
    owed = add_up(opening.owed, usage, incentive, rules)
    lines = [tally.line(key, scores[key], usage[key], incentive[key]) for key, tally in sorted(read.tallies.items())]
    state = State(
        epochs=opening.epochs + 1,
        minted=opening.minted + sum(incentive.values()),
        owners=core.owners,
        standings={node: one for node, one in core.standings.items() if one != Standing()},
        owed=owed,
        carried={**opening.carried, **read.carried},
    )
    leaves = [Leaf(*key, amount) for key, amount in sorted(owed.items())]
    return Folded(state, lines, leaves, totals_of(read.tallies, incentive, state), errors)


def usage_of(tallies: Mapping[LineKey, Tally], rules: Rules) -> Shares:
    """Stage shares, usage: what each line earned in the credits that are paid through."""
    return {key: tally.sum_of(("income", "made_good"), (rules.credit,)) for key, tally in tallies.items()}


def incentives_of(tallies: Mapping[LineKey, Tally], scores: Shares, rules: Rules, epoch: int) -> Shares:
    """Stage shares, incentive: the pool over verticals by weight, over their lines by score times fee, capped by it."""
    found = dict.fromkeys(tallies, 0)
    names = sorted(rules.weights)
    pools = split(rules.pool(epoch) if rules.pays else 0, [rules.weights[name] for name in names])
    for name, pool in zip(names, pools, strict=True):
        keys = sorted(key for key in tallies if key[0] == name)
        fees = [Fees(part(tallies[key].sum_of(("fee",), rules.pays, bought=True), scores[key])) for key in keys]
        shares = incentives(pool // rules.units_per_microusd, fees, ppm=rules.cap_ppm, attested_ppm=0)
        found |= {key: share * rules.units_per_microusd for key, share in zip(keys, shares, strict=True)}
    return found


def add_up(
    before: Mapping[tuple[bytes, bytes], int], usage: Shares, incentive: Shares, rules: Rules
) -> dict[tuple[bytes, bytes], int]:
    """What each account is owed of each asset since the beginning: it only ever grows."""
    owed = Counter(before)
    for asset, shares in ((rules.settlement, usage), (rules.token, incentive)):
        for (_, _, account), share in shares.items():
            if share:
                owed[account, asset] += share
    return dict(owed)


def totals_of(tallies: Mapping[LineKey, Tally], incentive: Shares, state: State) -> dict[str, int]:
    """Sums over all lines. Usage and incentive are apart; granted credits are no revenue."""
    sums: Counter[str] = Counter()
    for tally in tallies.values():
        for (credit, bought, name), value in tally.money.items():
            sums[f"{'bought' if bought else 'checks'}.{credit}.{name}"] += value
    paid = sum(sums[f"bought.{credit}.fee"] for credit in (2, 3))
    return {**+sums, "revenue": paid, "incentive": sum(incentive.values()), "minted": state.minted}
