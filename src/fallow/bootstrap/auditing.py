"""Epochs that lie in a folder, computed again with the verticals that are installed here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from fallow.bootstrap.plugins import load_limits_made, load_meterings
from fallow.bootstrap.recounting import paid_use, recount
from fallow.domain.epochs.closing import closer
from fallow.domain.epochs.core import Epoch
from fallow.domain.epochs.folding import Folded, fold
from fallow.domain.epochs.judging import Before, judge
from fallow.domain.epochs.lines import LINES, Line, read_lines
from fallow.domain.epochs.manifest import checked
from fallow.domain.epochs.offences import Offence, of_gateways
from fallow.domain.epochs.paid_use import PaidUse
from fallow.domain.epochs.reading import Filed, filed_records, records_of_kind
from fallow.domain.epochs.redirecting import paid_instead
from fallow.domain.epochs.rules import Rules, pinned_rules, rules_of
from fallow.domain.epochs.stakes import Shared, read_shared
from fallow.domain.epochs.state import STATE, read_state
from fallow.domain.epochs.statement import NONE, Statement
from fallow.domain.epochs.sums import Recounts
from fallow.domain.errors import InvalidInput
from fallow.domain.facts import LeaseSettled, NodeShown
from fallow.domain.gateway_facts import GatewayOverstated
from fallow.domain.identity import node_id
from fallow.domain.network_facts import LendingForfeited, LendingReturned, LendingUsed
from fallow.sdk.epochs import read_epoch, read_file, verify_epoch


class Story(NamedTuple):
    """What an epoch says of one node: its lines, the records behind them, the rules, and a token's price.

    These are the network's about it, and its own of the kinds that an installed vertical reads.
    `delegated` is what of an account's tokens went to who has stake with it, `paid_to` who is paid in its place.
    """

    lines: list[Line]
    records: list[Filed]
    rules: Rules
    price: int
    delegated: Mapping[bytes, int]
    paid_to: Mapping[bytes, bytes]


class Otherwise(NamedTuple):
    """An epoch as it was closed, and as it would have been under other rules."""

    before: Folded
    after: Folded


class Audited(NamedTuple):
    """An epoch that is what its records give, what of its sums could be added up again, and what costs stake.

    That are the offences of `gateways`, which convict by the signatures in their records. `paid` says who was paid for
    more than his nodes gave, which convicts nobody.
    """

    statement: Statement
    recounts: Recounts
    paid: PaidUse
    gateways: list[Offence]


def audit(folder: Path, number: int, network_key: bytes) -> Audited:
    """Compute an epoch again from its files alone, and hold every bit against what its statement says.

    The epoch before lies in the same folder, unless this one is the first: what it carried on is where this one begins.

    Raises:
        InvalidInput: `archive.*`, `epoch.*`: something does not hold, and what.
        NotAllowed: a statement is not signed by the network.
    """
    verify_epoch(folder, number, network_key)
    sealed, said, manifest = read_epoch(folder, number, network_key)

    def read(name: str) -> Iterable[bytes]:
        return read_file(folder, number, name)

    before = _before(folder, said, network_key)
    judge(sealed, before, read, network_key, closer(network_key, load_meterings()))
    overstated = records_of_kind(manifest, read, GatewayOverstated.kind)
    return Audited(
        said,
        recount(folder, number, network_key),
        paid_use(folder, number, network_key),
        of_gateways(overstated, said.net, network_key, load_limits_made()),
    )


def explain(folder: Path, number: int, network_key: bytes, wanted: str) -> Story:
    """Find what an epoch says of a node, whose id (hex) begins so. Raises as `audit`, though nothing is computed again.

    Raises:
        InvalidInput: `node.ambiguous`: several begin so.
    """
    _, said, manifest = read_epoch(folder, number, network_key)

    def read(name: str) -> Iterable[bytes]:
        return read_file(folder, number, name)

    lines = [line for line in read_lines(_file(folder, said, LINES)) if line.node.hex().startswith(wanted.lower())]
    nodes = {line.node for line in lines}
    if len(nodes) > 1:
        raise InvalidInput(
            "node.ambiguous", f"{len(nodes)} nodes have ids that begin with {wanted!r}.", "Write more of it."
        )
    node = nodes.pop() if nodes else node_id(wanted)
    of_network = {LeaseSettled.kind, NodeShown.kind, LendingUsed.kind, LendingReturned.kind, LendingForfeited.kind}
    of_nodes = {kind for one in load_meterings().values() for kind in one.kinds} - of_network
    records = [
        one
        for kind in of_network | of_nodes
        for one in records_of_kind(manifest, read, kind)
        if (one.node == node and kind in of_nodes)
        or (one.node == network_key and kind in of_network and one.record.body.get("node") == node)
    ]
    rules = pinned_rules(said.policies) if said.policies else Rules()
    price = int.from_bytes(said.totals.get("price", b""))
    accounts = {line.account for line in lines if line.account}
    before = _before(folder, said, network_key)
    return Story(
        lines,
        sorted(records, key=lambda one: (one.batch, one.place)),
        rules,
        price,
        {one: _delegated(folder, said, one) for one in accounts},
        paid_instead(read_state(before.state).carried if before else {}),
    )


def shares(folder: Path, number: int, network_key: bytes, account: bytes) -> list[Shared]:
    """Find what an account got of what operators earned, or they of it. Raises as `explain`."""
    _, said, _ = read_epoch(folder, number, network_key)
    return read_shared(read_state(_file(folder, said, STATE)).carried, account)


def _delegated(folder: Path, said: Statement, account: bytes) -> int:
    """Tokens of an operator that went to others."""
    found = read_shared(read_state(_file(folder, said, STATE)).carried, account)
    return sum(one.units for one in found if one.operator == account != one.holder)


def what_if(folder: Path, number: int, network_key: bytes, change: Callable[[Rules], Rules]) -> Otherwise:
    """Fold an epoch under its own rules, and under what `change` makes of them. Raises as `audit`."""
    _, said, manifest = read_epoch(folder, number, network_key)
    rules, used = rules_of(said.policies, load_meterings())
    changed = change(rules)
    before = _before(folder, said, network_key)
    opening = read_state(before.state if before else b"")
    epoch = Epoch(said.net, said.epoch, said.until_ms, network_key)

    def folded(under: Rules) -> Folded:
        records = filed_records(manifest, lambda name: read_file(folder, number, name))
        return fold(opening, epoch, records, under, used)

    return Otherwise(folded(rules), folded(changed))


def _before(folder: Path, said: Statement, network_key: bytes) -> Before | None:
    """The epoch before, as far as it takes to go on from it."""
    if said.previous == NONE:
        return None
    sealed, last, _ = read_epoch(folder, said.epoch - 1, network_key)
    return Before(sealed, last, {}, _file(folder, last, STATE) if last.closing != NONE else b"")


def _file(folder: Path, said: Statement, name: str) -> bytes:
    """Read a file that a statement names; empty where it names none of this name."""
    found = [file for file in said.files if file.name == name]
    return b"".join(b"".join(checked(file, read_file(folder, said.epoch, name))) for file in found)
