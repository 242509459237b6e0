"""Withdrawals in an epoch's records: what buyers took out of their paid credits is owed to whom they named. Pure.

The record is the network's word alone, as with every amount that its ledger moved: that each is one transfer, and that
no more is owed than was deposited, `fallow ledger audit` and the distributor check.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from fallow.domain.chart import Credit
from fallow.domain.epochs.metering import ACCEPTED, Found
from fallow.domain.epochs.reading import Filed
from fallow.domain.epochs.rules import Rules
from fallow.domain.epochs.state import Owed
from fallow.domain.facts import CreditWithdrawn
from fallow.domain.verification import Verdict


class Withdrawals:
    """The withdrawals of one epoch. `owed` is what each account gets by them, in units of the settlement asset."""

    kind = CreditWithdrawn.kind

    def __init__(self, network: bytes) -> None:
        self.owed: Counter[bytes] = Counter()
        self._network = network
        self._seen: set[bytes] = set()

    def verify(self, filed: Filed) -> Found:
        """Take a record; one that is there twice counts once.

        Raises:
            InvalidInput: it is malformed.
        """
        if filed.node != self._network:
            return Found(Verdict.REJECTED, "withdrawn.not_the_network")
        body = filed.record.read(CreditWithdrawn)
        if body.withdrawal in self._seen:
            return Found(Verdict.REJECTED, "withdrawn.repeated")
        self._seen.add(body.withdrawal)
        self.owed[body.account] += body.amount_microusd
        return ACCEPTED


def owed_for(withdrawn: Mapping[bytes, int], rules: Rules) -> Counter[Owed]:
    """What is owed for what was withdrawn. Only paid credits are backed: nothing where the rules settle others."""
    if Credit(rules.credit) is not Credit.PAID:
        return Counter()
    return Counter({(account, rules.settlement): amount for account, amount in withdrawn.items()})
