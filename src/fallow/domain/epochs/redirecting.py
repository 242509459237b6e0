"""Accounts that are paid elsewhere: what they signed, carried from epoch to epoch. Pure.

An epoch's earnings go where the account was paid at its beginning: a change that takes effect in an epoch counts from
the next one on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from fallow.domain.epochs.metering import ACCEPTED, Found
from fallow.domain.epochs.reading import Filed
from fallow.domain.epochs.state import Owed, Row
from fallow.domain.facts import AccountPayout
from fallow.domain.payees import FRESH_MS, Payee, at, changed
from fallow.domain.records import convert
from fallow.domain.verification import Verdict

SECTION: Final = "core.payees"


class Payees:
    """Takes an epoch's changes; what is carried is `SECTION`."""

    kind = AccountPayout.kind

    def __init__(self, net: str, network: bytes, carried: Mapping[str, Sequence[Row]]) -> None:
        self._net = net
        self._network = network
        self._known = {one.account: one for one in _read(carried)}
        self._paid_to = paid_instead(carried)

    def verify(self, filed: Filed) -> Found:
        """Take a record: the network says when it came, the account's signature says the rest.

        Raises:
            FallowError: see `changed`, or it is malformed.
        """
        if filed.node != self._network:
            return Found(Verdict.REJECTED, "payout.not_the_network")
        body = filed.record.read(AccountPayout)
        before = self._known.get(body.account, Payee(body.account, body.account))
        self._known[body.account] = changed(
            before, self._net, body.to, body.signed_at_s, body.signature, filed.record.at
        )
        return ACCEPTED

    def redirected(self, earned: Counter[Owed]) -> Counter[Owed]:
        """What an epoch adds, to whom it is paid."""
        paid: Counter[Owed] = Counter()
        for (account, asset), amount in earned.items():
            paid[self._paid_to.get(account, account), asset] += amount
        return paid

    def rows(self, until_ms: int) -> Sequence[Row]:
        """What the next epoch begins with. Who is paid as if he had never changed it is forgotten when that is safe."""
        ended = (at(one, until_ms) for one in self._known.values())
        return [
            list(one)
            for one in ended
            if one.pending or one.paid_to != one.account or one.signed_at_s * 1000 + 2 * FRESH_MS > until_ms
        ]


def paid_instead(carried: Mapping[str, Sequence[Row]]) -> dict[bytes, bytes]:
    """Who is paid in an epoch in whose place, by what was carried into it."""
    return {one.account: one.paid_to for one in _read(carried) if one.paid_to != one.account}


def _read(carried: Mapping[str, Sequence[Row]]) -> list[Payee]:
    return convert(list(carried.get(SECTION, ())), list[Payee], "epoch.state")
