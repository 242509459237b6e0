"""The fold: opening state, records and policies give closing state, lines and what everybody is owed. Pure.

Its stages are functions of their own: verify and meter (`judgements`), score, shares (`shares`, out of a pool of
`economy`), and the root over what is owed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from fallow.domain.chart import Credit
from fallow.domain.epochs.burning import Burns, replay
from fallow.domain.epochs.core import Core, Epoch
from fallow.domain.epochs.dividing import SECTION as WEIGHTS
from fallow.domain.epochs.dividing import Weights, of_verticals, read_weights, weight_rows, weights_of
from fallow.domain.epochs.economy import SECTION as ECONOMY
from fallow.domain.epochs.economy import Economy, pool_of, read_economy
from fallow.domain.epochs.judgements import CORE, Read, read_records
from fallow.domain.epochs.keeping import Keeping, Turns, keep, read_holdings
from fallow.domain.epochs.lines import INCENTIVE, USAGE, Line, LineKey, Tally
from fallow.domain.epochs.metering import Metering
from fallow.domain.epochs.plugins import score_of
from fallow.domain.epochs.reading import Filed
from fallow.domain.epochs.redirecting import SECTION as PAYEES
from fallow.domain.epochs.rules import BURN_AND_MINT, Rules
from fallow.domain.epochs.shares import SECTION as RETURNED
from fallow.domain.epochs.shares import (
    counted,
    fees_that_count,
    incentives_of,
    read_returned,
    returned_rows,
    usage_of,
    worth,
)
from fallow.domain.epochs.state import Owed, State
from fallow.domain.epochs.unsold import unsold_of
from fallow.domain.epochs.withdrawing import owed_for
from fallow.domain.rewards.tree import Leaf
from fallow.domain.verification import Standing


class Folded(NamedTuple):
    """What follows from an epoch's records. Lines and leaves are in the order of their keys."""

    state: State
    lines: list[Line]
    leaves: list[Leaf]
    totals: dict[str, int]
    seed: bytes = b""
    errors: Mapping[str, str] = {}
    """What a vertical's policy did first that it must not, by vertical: for its operator's eyes, in no file."""


def fold(
    opening: State, epoch: Epoch, records: Iterable[Filed], rules: Rules, verticals: Mapping[str, Metering]
) -> Folded:
    """Close an epoch."""
    return fold_read(opening, epoch, read_records(opening, epoch, records, verticals), rules, verticals)


def fold_read(opening: State, epoch: Epoch, read: Read, rules: Rules, verticals: Mapping[str, Metering]) -> Folded:
    """Close an epoch whose records were judged."""
    core, errors = read.core, dict(read.errors)
    known = read_weights(opening.carried)
    weights = weights_of(known, read.tallies)
    core.subscribed.count(read.tallies, of_verticals(weights, verticals))
    scores = scores_of(read, verticals, epoch.until_ms, errors)
    usage = usage_of(read.tallies, rules)
    uses, returned = fees_that_count(read.tallies, read_returned(opening.carried), rules)
    chain = core.chain
    burns = replay(chain.happened, opening.carried, rules.feeds, rules.guard)
    economy = _at_held_price(counted(read_economy(opening.carried), read.tallies, rules), burns, rules)
    economy, pool = pool_of(economy, rules, opening.epochs, opening.minted, chain.burned, burns.quotes, epoch.until_ms)
    bought = Counter(incentives_of(uses, scores, rules, pool))
    unsold = unsold_of(read.tallies, scores, bought, rules, pool)
    incentive = Counter(bought)
    incentive.update(unsold)
    kept = keep(
        opening.carried,
        rules,
        opening.epochs,
        {USAGE: usage, INCENTIVE: incentive},
        Turns(
            found_wrong(opening.standings, core.standings),
            core.forfeited,
            core.returned,
            known_since(opening, known, weights, core),
        ),
    )
    economy = economy._replace(
        given=economy.given + worth(bought.total(), pool.price),
        forfeited=economy.forfeited + kept.forfeited(INCENTIVE),
        forfeited_usage=economy.forfeited_usage + kept.forfeited(USAGE),
    )
    earned = payouts(usage, incentive, kept, rules)
    shared = chain.stakes.shared(earned, rules.token)
    owed = Counter(opening.owed)
    owed.update(core.payees.redirected(shared))
    owed.update(owed_for(core.withdrawals.owed, rules))
    state = State(
        epochs=opening.epochs + 1,
        minted=opening.minted + incentive.total(),
        owners=core.owners,
        standings={node: one for node, one in core.standings.items() if one != Standing()},
        owed=dict(owed),
        carried={
            **opening.carried,
            **read.carried,
            **kept.carried,
            **chain.rows(),
            PAYEES: core.payees.rows(epoch.until_ms),
            **burns.rows(),
            ECONOMY: economy.rows(),
            RETURNED: returned_rows(returned),
            WEIGHTS: weight_rows(weights),
        },
    )
    network = {
        "usage": sum(usage.values()),
        "incentive": incentive.total(),
        **({"incentive.unsold": sum(unsold.values())} if unsold else {}),
        "minted": state.minted,
        "burned": chain.burned,
        "burned.credited": burns.credited,
        "burned.unsound": burns.unsound,
        "delegated": (shared - earned).total(),
        "burned_ever": economy.burned,
        "price": pool.price,
        "held.usage": kept.held[USAGE],
        "held.incentive": kept.held[INCENTIVE],
        "vesting": kept.vesting,
        "forfeited.usage": economy.forfeited_usage,
        "forfeited.incentive": economy.forfeited,
    }
    return Folded(
        state,
        lines_of(read.tallies, scores, usage, incentive, kept),
        [Leaf(*key, amount) for key, amount in sorted(owed.items())],
        totals_of(read.tallies) | network,
        core.seeds.seed,
        errors,
    )


def scores_of(
    read: Read, verticals: Mapping[str, Metering], until_ms: int, errors: dict[str, str]
) -> dict[LineKey, int]:
    """What each line's node scores by its standing, as the vertical's policy says; its `errors` are noted."""
    return {
        (vertical, node, account): 0
        if vertical == CORE
        else score_of(verticals[vertical], read.core.standings.get(node, Standing()), until_ms, errors)
        for vertical, node, account in read.tallies
    }


def lines_of(
    tallies: Mapping[LineKey, Tally],
    scores: Mapping[LineKey, int],
    usage: Mapping[LineKey, int],
    incentive: Mapping[LineKey, int],
    kept: Keeping,
) -> list[Line]:
    """One line for whoever worked in the epoch, or for whom something that was kept has moved."""
    return [
        tallies.get(key, Tally()).line(
            key, scores.get(key, 0), usage.get(key, 0), incentive.get(key, 0), kept.rows(key)
        )
        for key in sorted(tallies.keys() | kept.moves.keys())
    ]


def _at_held_price(economy: Economy, burns: Burns, rules: Rules) -> Economy:
    """What moved since the epoch before, step by step or as the operator accepted, is no jump now."""
    if rules.model == BURN_AND_MINT and burns.oracle.held:
        return economy._replace(price=burns.oracle.held)
    return economy


def payouts(
    usage: Mapping[LineKey, int], incentive: Mapping[LineKey, int], kept: Keeping, rules: Rules
) -> Counter[Owed]:
    """What an epoch adds to what each account is owed of each asset. It is never less than nothing."""
    added: Counter[Owed] = Counter()
    for asset, name, shares in ((rules.settlement, USAGE, usage), (rules.token, INCENTIVE, incentive)):
        for (_, _, account), share in shares.items():
            added[account, asset] += share
        for (_, _, account), later in kept.later(name).items():
            added[account, asset] -= later
    return Counter({key: value for key, value in added.items() if value})


def found_wrong(before: Mapping[bytes, Standing], after: Mapping[bytes, Standing]) -> dict[bytes, str]:
    """Nodes that a check has found wrong meanwhile, and why."""
    return {
        node: standing.why for node, standing in after.items() if standing.wrong > before.get(node, Standing()).wrong
    }


def known_since(opening: State, before: Weights, after: Weights, core: Core) -> dict[LineKey, int]:
    """When nodes began whose account is paid by node for the first time: when the account's own line did.

    Else who lent before there was pay by node would be new once more.
    """
    new = [
        (account, of_account) for (vertical, account), of_account in after.items() if (vertical, account) not in before
    ]
    holdings = read_holdings(opening.carried) if new else {}
    own = {account: holdings.get(core.subscribed.line_of(account)) for account, _ in new}
    return {key: line.since for account, of_account in new if (line := own[account]) is not None for key in of_account}


def totals_of(tallies: Mapping[LineKey, Tally]) -> dict[str, int]:
    """Sums over all lines. Granted credits are no revenue."""
    sums: Counter[str] = Counter()
    for tally in tallies.values():
        for (credit, bought, name), value in tally.money.items():
            sums[f"{'bought' if bought else 'checks'}.{credit}.{name}"] += value
    return {**+sums, "revenue": sum(sums[f"bought.{credit}.fee"] for credit in (Credit.PAID, Credit.BURNED))}
