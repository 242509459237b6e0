"""What accounts were paid for, held against what their nodes are told to have been used for. Pure.

Settled windows of subscriptions say how much of what was delivered an account was paid for, `LendingUsed` what each of
its nodes gave: the one moves money, the other rests on orders that are added up again. Both come from one sum of the
network's, so that over a longer time nobody is paid for more than was told of, unless a bill had to wait for its buyer.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Final, NamedTuple

from fallow.domain.billing import HOUR_MS
from fallow.domain.epochs.reading import Filed
from fallow.domain.errors import InvalidInput
from fallow.domain.network_facts import LendingUsed, SubscriptionSettled

KINDS: Final = (LendingUsed.kind, SubscriptionSettled.kind)
AHEAD_MS: Final = 2 * HOUR_MS
"""What a window pays for was used in it, an hour at most, or told to it with the delay of a bill."""
BEHIND_MS: Final = HOUR_MS
"""Use is told of once an hour: so much of what was paid for may not have been told yet."""

_Key = tuple[str, bytes, str]
"""Vertical, account, meter."""


class Above(NamedTuple):
    """An account that was paid for more on a meter than its nodes are told to have been used for."""

    vertical: str
    account: bytes
    meter: str
    paid: int
    used: int


class PaidUse(NamedTuple):
    """How many accounts were looked at, and which of them were paid for more than their nodes gave."""

    accounts: int
    above: list[Above]


class Comparison:
    """Takes records of the network from `since_ms` less `AHEAD_MS` on, up to `until_ms`, in the order of ingest.

    What counts once in an epoch counts once here.
    """

    def __init__(self, network: bytes, since_ms: int, until_ms: int) -> None:
        self._network = network
        self._since_ms = since_ms
        self._until_ms = until_ms
        self._paid: Counter[_Key] = Counter()
        self._used: Counter[_Key] = Counter()
        self._last: dict[tuple[str, bytes], int] = {}
        self._nodes: defaultdict[tuple[str, bytes], set[bytes]] = defaultdict(set)
        self._seen: set[tuple[bytes, int, int]] = set()

    def take(self, filed: Filed) -> None:
        """Take the next record of `KINDS`; what is malformed, the epoch's policies have refused, too."""
        if filed.node != self._network:
            return
        try:
            if filed.record.kind == LendingUsed.kind:
                self._take_used(filed.record.read(LendingUsed))
            else:
                self._take_paid(filed.record.read(SubscriptionSettled))
        except InvalidInput:
            return

    def found(self) -> PaidUse:
        """Say what came of it, of the verticals that tell of use by node.

        A node's use is told in whole units, and what is left of one with the next: so much an account may be ahead.
        """
        tell = {vertical for vertical, _ in self._last}
        paid = {key: quantity for key, quantity in sorted(self._paid.items()) if key[0] in tell}
        above = [
            Above(*key, quantity, self._used[key])
            for key, quantity in paid.items()
            if quantity > self._used[key] + len(self._nodes.get(key[:2], ()))
        ]
        return PaidUse(len({key[:2] for key in paid}), above)

    def _take_used(self, body: LendingUsed) -> None:
        node = body.vertical, body.node
        if body.window <= self._last.get(node, -1):
            return
        self._last[node] = body.window
        if body.until_ms >= self._since_ms - AHEAD_MS:
            self._nodes[body.vertical, body.payee].add(body.node)
            for meter, quantity in body.used.items():
                self._used[body.vertical, body.payee, meter] += quantity

    def _take_paid(self, body: SubscriptionSettled) -> None:
        key = body.subscription, body.window, body.part
        if key in self._seen or not self._since_ms <= body.until_ms < self._until_ms - BEHIND_MS:
            return
        self._seen.add(key)
        for one in body.earned:
            for used in one.used:
                more = int.from_bytes(used.after) - int.from_bytes(used.before)
                self._paid[body.vertical, one.payee, used.meter] += max(0, more)
