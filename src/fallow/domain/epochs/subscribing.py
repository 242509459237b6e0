"""Subscriptions in an epoch's records: what payees earned by what gateways served from them. Pure.

Nobody but the network says what was used: the record is held against its own tariff, so that no payee gets more than
his quantities cost, and counts as *operator-attested*: it is paid through, and earns no incentive.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from fallow.domain.epochs.lines import LineKey, Tally
from fallow.domain.epochs.metering import ACCEPTED, Found
from fallow.domain.epochs.reading import Filed
from fallow.domain.network_facts import Earned, SubscriptionSettled
from fallow.domain.subscriptions import Price
from fallow.domain.verification import Verdict

LINE: Final = ""
"""The vertical of its lines: that of the core, which has no score."""


FREE: Final = Price(microusd=0)
"""Of a meter that the tariff does not have."""


class Subscribed:
    """The settled windows of one epoch."""

    kind = SubscriptionSettled.kind

    def __init__(self, network: bytes) -> None:
        self._network = network
        self._seen: set[tuple[bytes, int, int]] = set()
        self._moved: Counter[tuple[bytes, int, str]] = Counter()

    def verify(self, filed: Filed) -> Found:
        """Take a record; one that is there twice counts once.

        Raises:
            InvalidInput: it is malformed.
        """
        if filed.node != self._network:
            return Found(Verdict.REJECTED, "subscription.not_the_network")
        body = filed.record.read(SubscriptionSettled)
        key = (body.subscription, body.window, body.part)
        if key in self._seen:
            return Found(Verdict.REJECTED, "subscription.repeated")
        if any(sum(one.income.values()) > cost(one, body) for one in body.earned):
            return Found(Verdict.REJECTED, "subscription.above_its_price")
        self._seen.add(key)
        for one in body.earned:
            for credit, amount in one.income.items():
                self._moved[one.payee, int(credit), "income"] += amount
        for name, moved in (("fee", body.fee), ("reserve", body.reserve)):
            for credit, amount in moved.items():
                self._moved[b"", int(credit), name] += amount
        return ACCEPTED

    def line_of(self, payee: bytes) -> LineKey:
        """Where what a payee earns is counted."""
        return LINE, self._network, payee

    def count(self, tallies: dict[LineKey, Tally]) -> None:
        """Add it to the lines: one for each payee, and the fees of all to the network's own."""
        for (payee, credit, name), amount in sorted(self._moved.items()):
            tally = tallies.setdefault(self.line_of(payee), Tally())
            tally.money[credit, True, name] += amount
            if name == "fee":
                tally.attested[credit] += amount


def cost(earned: Earned, body: SubscriptionSettled) -> int:
    """What a payee's use of a window costs at most: floored once over all that was used, as it is charged."""
    total = 0
    for one in earned.used:
        price = body.tariff.get(one.meter, FREE)
        after, before = (int.from_bytes(used) * price.microusd // price.per for used in (one.after, one.before))
        total += max(0, after - before)
    return total
