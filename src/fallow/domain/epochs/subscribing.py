"""Subscriptions in an epoch's records: what payees earned by what gateways served from them. Pure.

Nobody but the network says what was used: the record is held against its own tariff, so that no payee gets more than
his quantities cost, and counts as *operator-attested*. It is paid through. Where the vertical's policy says what each
node was used for, it is divided over the payee's nodes, to the last unit, and fees are divided as income is: only such
lines earn an incentive.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Final

from fallow.domain.epochs.dividing import Weights
from fallow.domain.epochs.lines import LineKey, Tally
from fallow.domain.epochs.metering import ACCEPTED, Found
from fallow.domain.epochs.reading import Filed
from fallow.domain.network_facts import Earned, SubscriptionSettled
from fallow.domain.rewards.split import split
from fallow.domain.subscriptions import Price
from fallow.domain.verification import Verdict

LINE: Final = ""
"""The vertical of its lines: that of the core, which has no score."""
INCOME: Final = "income"
FEE: Final = "fee"
FREE: Final = Price(microusd=0)
"""Of a meter that the tariff does not have."""


class Subscribed:
    """The settled windows of one epoch."""

    kind = SubscriptionSettled.kind

    def __init__(self, network: bytes) -> None:
        self._network = network
        self._seen: set[tuple[bytes, int, int]] = set()
        self._moved: Counter[tuple[str, bytes, int, str]] = Counter()
        """By vertical, payee (of fees nobody), credit class, and what it is."""

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
                self._moved[body.vertical, one.payee, int(credit), INCOME] += amount
        for name, moved in ((FEE, body.fee), ("reserve", body.reserve)):
            for credit, amount in moved.items():
                self._moved[body.vertical, b"", int(credit), name] += amount
        return ACCEPTED

    def line_of(self, payee: bytes) -> LineKey:
        """Where what a payee earns is counted that is of none of his nodes; of nobody: the fees of all."""
        return LINE, self._network, payee

    def count(self, tallies: dict[LineKey, Tally], weights: Weights) -> None:
        """Add it to the lines: what each payee earned to those of his nodes, and fees as what they are a part of."""
        earned: defaultdict[tuple[str, int], Counter[LineKey]] = defaultdict(Counter)
        for (vertical, payee, credit, name), amount in sorted(self._moved.items()):
            if name == INCOME:
                by = weights.get((vertical, payee), {self.line_of(payee): 1})
                for key, part in _divided(amount, by):
                    tallies.setdefault(key, Tally()).money[credit, True, name] += part
                    earned[vertical, credit][key if key[0] else self.line_of(b"")] += part
        for (vertical, _, credit, name), amount in sorted(self._moved.items()):
            if name != INCOME:
                for key, part in _divided(amount, earned[vertical, credit] or {self.line_of(b""): 1}):
                    tally = tallies.setdefault(key, Tally())
                    tally.money[credit, True, name] += part
                    if name == FEE:
                        tally.attested[credit] += part


def _divided(amount: int, weights: Mapping[LineKey, int]) -> Iterator[tuple[LineKey, int]]:
    """Cut an amount into parts that add up to it; empty ones are left out."""
    keys = sorted(weights)
    for key, part in zip(keys, split(amount, [weights[key] for key in keys]), strict=True):
        if part:
            yield key, part


def cost(earned: Earned, body: SubscriptionSettled) -> int:
    """What a payee's use of a window costs at most: floored once over all that was used, as it is charged."""
    total = 0
    for one in earned.used:
        price = body.tariff.get(one.meter, FREE)
        after, before = (int.from_bytes(used) * price.microusd // price.per for used in (one.after, one.before))
        total += max(0, after - before)
    return total
