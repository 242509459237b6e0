"""Records of the core: whose node it is, what checks have shown and came from, withdrawals, the chain. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from fallow.domain.bindings import binding_text
from fallow.domain.epochs.chain_records import ChainRecords
from fallow.domain.epochs.lines import LineKey
from fallow.domain.epochs.metering import ACCEPTED, Found
from fallow.domain.epochs.reading import Filed
from fallow.domain.epochs.redirecting import Payees
from fallow.domain.epochs.seeds import Seeds
from fallow.domain.epochs.state import State
from fallow.domain.epochs.subscribing import Subscribed
from fallow.domain.epochs.withdrawing import Withdrawals
from fallow.domain.errors import FallowError
from fallow.domain.facts import NodeBound, NodeEnrolled, NodeShown
from fallow.domain.network_facts import LendingForfeited, LendingReturned, NodeLendingReturned, SeedDrawn
from fallow.domain.verification import Standing, Verdict, learned
from fallow.domain.wallets import signer_of

BINDINGS: Final = frozenset({NodeEnrolled.kind, NodeBound.kind})
"""Kinds that say whose a node is."""

OWNERS_A_NODE_MAX: Final = 16
"""Whose a node can become in an epoch: each owner is a line of its own, and an account's key costs nothing."""


class Epoch(NamedTuple):
    """Which epoch it is, and whose."""

    net: str
    number: int
    until_ms: int
    network: bytes


class Core:
    """What is known beside the verticals: `owners` of nodes, and the `standings` that checks gave them.

    `chain` has what happened on the network's chain: burned tokens, quotes of their price, stakes.
    """

    def __init__(self, opening: State, epoch: Epoch) -> None:
        self.owners = dict(opening.owners)
        self.standings = dict(opening.standings)
        self.chain = ChainRecords(epoch.net, epoch.network, opening.carried)
        self.withdrawals = Withdrawals(epoch.network)
        self.seeds = Seeds(epoch.net, epoch.network)
        self.payees = Payees(epoch.net, epoch.network, opening.carried)
        self.subscribed = Subscribed(epoch.network)
        self.returned: set[LineKey] = set()
        """Lines of who has handed back what he lent, in good order."""
        self.forfeited: dict[tuple[str, bytes], str] = {}
        """Verticals that have shut a node out for what it did with what it lends, and why."""
        self._epoch = epoch
        self._new_owners: Counter[bytes] = Counter()
        self._take: Mapping[str, Callable[[Filed], Found]] = {
            NodeEnrolled.kind: self._enrolled,
            NodeBound.kind: self._bound,
            NodeShown.kind: self._shown,
            Withdrawals.kind: self.withdrawals.verify,
            SeedDrawn.kind: self.seeds.verify,
            Payees.kind: self.payees.verify,
            Subscribed.kind: self.subscribed.verify,
            LendingReturned.kind: self._returned,
            LendingForfeited.kind: self._forfeited,
            **self.chain.takes,
        }

    @property
    def kinds(self) -> frozenset[str]:
        """Kinds of records that it takes."""
        return frozenset(self._take)

    def verify(self, filed: Filed) -> Found:
        """Decide on a record of these kinds."""
        try:
            return self._take[filed.record.kind](filed)
        except FallowError as error:
            return Found(Verdict.REJECTED, error.code)

    def _shown(self, filed: Filed) -> Found:
        if filed.node != self._epoch.network:
            return Found(Verdict.REJECTED, "shown.not_the_network")
        body = filed.record.read(NodeShown)
        before = self.standings.get(body.node, Standing())
        self.standings[body.node] = learned(before, filed.record.at, body.what, body.code)
        return ACCEPTED

    def _returned(self, filed: Filed) -> Found:
        if filed.node != self._epoch.network:
            return Found(Verdict.REJECTED, "lending.not_the_network")
        by_node = filed.record.v == NodeLendingReturned.version
        body = filed.record.read(NodeLendingReturned if by_node else LendingReturned)
        if isinstance(body, NodeLendingReturned):
            self.returned.add((body.vertical, body.node, body.account))
        if not isinstance(body, NodeLendingReturned) or body.last:
            self.returned.add(self.subscribed.line_of(body.account))
        return ACCEPTED

    def _forfeited(self, filed: Filed) -> Found:
        if filed.node != self._epoch.network:
            return Found(Verdict.REJECTED, "lending.not_the_network")
        body = filed.record.read(LendingForfeited)
        self.forfeited[body.vertical, body.node] = body.code
        return ACCEPTED

    def _enrolled(self, filed: Filed) -> Found:
        body = filed.record.read(NodeEnrolled)
        return self._belongs(filed, body.account, body.account_signature, None)

    def _bound(self, filed: Filed) -> Found:
        body = filed.record.read(NodeBound)
        return self._belongs(filed, body.account, body.account_signature, body.before_s)

    def _belongs(self, filed: Filed, account: bytes, signature: bytes, before_s: int | None) -> Found:
        """Both signed: the node its record, the account what wallets show."""
        if signer_of(binding_text(self._epoch.net, filed.node, account, before_s), signature) != account:
            return Found(Verdict.REJECTED, "binding.signature")
        if self.owners.get(filed.node) != account:
            if self._new_owners[filed.node] == OWNERS_A_NODE_MAX:
                return Found(Verdict.REJECTED, "binding.too_many")
            self._new_owners[filed.node] += 1
        self.owners[filed.node] = account
        return ACCEPTED
