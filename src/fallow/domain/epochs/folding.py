"""The fold: opening state, records and policies give closing state, lines and what everybody is owed. Pure.

Its stages are functions of their own: verify and meter (`read`), score, shares (`pay`), and the root over what is owed.
Records are read once, in the order of ingest, so that memory grows with nodes and not with records.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from fallow.domain.bindings import binding_text
from fallow.domain.epochs.lines import Line, LineKey, Tally
from fallow.domain.epochs.metering import Found, Known, Metering, Use, Verifier
from fallow.domain.epochs.reading import Filed
from fallow.domain.epochs.rules import Rules
from fallow.domain.epochs.state import State
from fallow.domain.errors import FallowError
from fallow.domain.facts import NodeBound, NodeEnrolled, NodeShown
from fallow.domain.rewards.split import part, split
from fallow.domain.rewards.tree import Leaf
from fallow.domain.rewards.usage import Use as Fees
from fallow.domain.rewards.usage import incentives
from fallow.domain.verification import Standing, Verdict, learned
from fallow.domain.wallets import signer_of

CORE = ""
"""The vertical of lines that count records of the core: bindings, and what checks have shown."""


class Epoch(NamedTuple):
    """Which epoch it is, and whose."""

    net: str
    number: int
    until_ms: int
    network: bytes


class Folded(NamedTuple):
    """What follows from an epoch's records. Lines and leaves are in the order of their keys."""

    state: State
    lines: list[Line]
    leaves: list[Leaf]
    totals: dict[str, int]


class Read(NamedTuple):
    """What the records have shown."""

    tallies: dict[LineKey, Tally]
    owners: dict[bytes, bytes]
    standings: dict[bytes, Standing]
    verifiers: dict[str, Verifier]


Shares = dict[LineKey, int]


def fold(
    opening: State, epoch: Epoch, records: Iterable[Filed], rules: Rules, verticals: Mapping[str, Metering]
) -> Folded:
    """Close an epoch."""
    read = read_records(opening, epoch, records, verticals)
    scores = {
        key: verticals[key[0]].score(read.standings.get(key[1], Standing()), epoch.until_ms) if key[0] else 0
        for key in read.tallies
    }
    usage = usage_of(read.tallies, rules)
    incentive = incentives_of(read.tallies, scores, rules, opening.epochs)
    owed = add_up(opening.owed, usage, incentive, rules)
    lines = [tally.line(key, scores[key], usage[key], incentive[key]) for key, tally in sorted(read.tallies.items())]
    state = State(
        epochs=opening.epochs + 1,
        minted=opening.minted + sum(incentive.values()),
        owners=read.owners,
        standings={node: one for node, one in read.standings.items() if one != Standing()},
        owed=owed,
        carried={**opening.carried, **{name: one.carried() for name, one in read.verifiers.items()}},
    )
    leaves = [Leaf(*key, amount) for key, amount in sorted(owed.items())]
    return Folded(state, lines, leaves, totals_of(read.tallies, incentive, state))


def read_records(opening: State, epoch: Epoch, records: Iterable[Filed], verticals: Mapping[str, Metering]) -> Read:
    """Stages verify and meter: decide on each record, and count what the accepted ones say."""
    tallies: dict[LineKey, Tally] = defaultdict(Tally)
    core = _Core(opening, epoch)
    known = Known(epoch.number, epoch.network, core.owners)
    verifiers = {name: one.verifier(opening.carried.get(name, ()), known) for name, one in verticals.items()}
    readers = {kind: [name for name, one in verticals.items() if kind in one.kinds] for kind in _kinds(verticals)}
    for filed in records:
        if filed.record.kind in core.kinds:
            found = core.verify(filed)
            tallies[CORE, filed.node, core.owners.get(filed.node, b"")].verdicts[found.verdict.value, found.code] += 1
        for name in readers.get(filed.record.kind, ()):
            found = _verify(verifiers[name], filed)
            use = verticals[name].meter(filed) if found.verdict is Verdict.ACCEPTED else None
            node = filed.node if use is None else use.node
            account = (use and use.account) or core.owners.get(node, b"")
            tally = tallies[name, node, account]
            tally.verdicts[found.verdict.value, found.code] += 1
            if use is not None:
                _count(tally, use)
    return Read(dict(tallies), core.owners, core.standings, verifiers)


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


class _Core:
    """Bindings of nodes to accounts, and what checks have shown."""

    kinds = frozenset(fact.kind for fact in (NodeEnrolled, NodeBound, NodeShown))

    def __init__(self, opening: State, epoch: Epoch) -> None:
        self.owners = dict(opening.owners)
        self.standings = dict(opening.standings)
        self._epoch = epoch

    def verify(self, filed: Filed) -> Found:
        try:
            return self._shown(filed) if filed.record.kind == NodeShown.kind else self._bound(filed)
        except FallowError as error:
            return Found(Verdict.REJECTED, error.code)

    def _shown(self, filed: Filed) -> Found:
        if filed.node != self._epoch.network:
            return Found(Verdict.REJECTED, "shown.not_the_network")
        body = filed.record.read(NodeShown)
        before = self.standings.get(body.node, Standing())
        self.standings[body.node] = learned(before, filed.record.at, body.what, body.code)
        return Found(Verdict.ACCEPTED)

    def _bound(self, filed: Filed) -> Found:
        """Both signed: the node its record, the account what wallets show."""
        body: NodeEnrolled | NodeBound
        if filed.record.kind == NodeBound.kind:
            body = filed.record.read(NodeBound)
            before_s: int | None = body.before_s
        else:
            body, before_s = filed.record.read(NodeEnrolled), None
        text = binding_text(self._epoch.net, filed.node, body.account, before_s)
        if signer_of(text, body.account_signature) != body.account:
            return Found(Verdict.REJECTED, "binding.signature")
        self.owners[filed.node] = body.account
        return Found(Verdict.ACCEPTED)


def _kinds(verticals: Mapping[str, Metering]) -> frozenset[str]:
    return frozenset(kind for one in verticals.values() for kind in one.kinds)


def _verify(verifier: Verifier, filed: Filed) -> Found:
    try:
        return verifier.verify(filed)
    except FallowError as error:
        return Found(Verdict.REJECTED, error.code)


def _count(tally: Tally, use: Use) -> None:
    tally.units += use.units
    for moved in use.moved:
        for name in ("income", "fee", "reserve", "refunded", "made_good"):
            if value := getattr(moved, name):
                tally.money[moved.credit, use.bought, name] += value
    if use.ended is not None:
        tally.end(*use.ended)
