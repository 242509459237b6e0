"""An epoch's figures by vertical, for the explorer: added up once from the epoch's files. Pure.

Nobody signs them: who doubts them adds up the same files again. They lie beside those, in the file `networks`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

import msgspec

from fallow.domain.chart import Credit
from fallow.domain.epochs.lines import Line
from fallow.domain.epochs.subscribing import LINE
from fallow.domain.facts import LeaseSettled
from fallow.domain.network_facts import SubscriptionSettled

NETWORKS: Final = "networks"
NETWORKS_BYTES_MAX: Final = 1 << 20
BACKED: Final = frozenset({Credit.PAID, Credit.BURNED})


class VerticalSums(msgspec.Struct, frozen=True, kw_only=True):
    """What one vertical did in an epoch.

    `nodes` have a line, `accounts` have one or were paid by subscriptions, `units` are of what it meters.
    Buyers paid `usage_microusd` in credits that are worth something and `test_microusd` in TEST credits, fees included;
    `fees_microusd` of the first were fees (None: it was added up before they were counted);
    `incentive` is in the token's smallest unit, as text. Of `leases` that buyers paid for and that ended,
    `leases_done` have a result that is believed. Without those with graphics processors, leases of buyers were charged
    `charged_core_s` and cost `leases_microusd`; what is of use of it are `core_s` of cores with `gib_s` of memory,
    rounded down. `metered` is what a shared service delivered, by meter, as text.
    """

    vertical: str
    nodes: int = 0
    accounts: int = 0
    units: int = 0
    usage_microusd: int = 0
    test_microusd: int = 0
    fees_microusd: int | None = None
    incentive: str = "0"
    leases: int = 0
    leases_done: int = 0
    charged_core_s: int = 0
    leases_microusd: int = 0
    core_s: int = 0
    gib_s: int = 0
    metered: dict[str, str] = {}


class _Sums:
    """One vertical's, while they are added up."""

    def __init__(self) -> None:
        self.nodes: set[bytes] = set()
        self.accounts: set[bytes] = set()
        self.numbers: Counter[str] = Counter()
        self.metered: Counter[str] = Counter()

    def pay(self, credit: int, amount: int, fee: int) -> None:
        """Add what a buyer paid, and what of it is a fee."""
        self.numbers["usage" if credit in BACKED else "test"] += amount
        self.numbers["fees"] += fee if credit in BACKED else 0

    def view(self, vertical: str) -> VerticalSums:
        """Return the sums."""
        of = self.numbers
        return VerticalSums(
            vertical=vertical,
            nodes=len(self.nodes),
            accounts=len(self.accounts),
            units=of["units"],
            usage_microusd=of["usage"],
            test_microusd=of["test"],
            fees_microusd=of["fees"],
            incentive=str(of["incentive"]),
            leases=of["leases"],
            leases_done=of["done"],
            charged_core_s=of["charged"] // 1_000_000,
            leases_microusd=of["paid"],
            core_s=of["cores"] // 1_000_000,
            gib_s=of["memory"] // (1024 * 1000),
            metered={meter: str(quantity) for meter, quantity in sorted(self.metered.items())},
        )


class ByVertical:
    """Adds up an epoch. Records are the network's own."""

    def __init__(self) -> None:
        self._sums: dict[str, _Sums] = {}
        self._seen: set[tuple[bytes, int, int]] = set()

    def sums(self) -> list[VerticalSums]:
        """Return what was added up, by the names of verticals."""
        return [one.view(name) for name, one in sorted(self._sums.items())]

    def add_lines(self, lines: Iterable[Line]) -> None:
        """Add lines: who was there, and what it earned of the pool.

        What was paid is told by the records of leases and of subscriptions: lines divide that over nodes where a policy
        says how, and do not name the vertical where none does. A line of no account is of no node that works: what the
        network's own records say that a policy refused is on one.
        """
        for line in lines:
            if line.vertical == LINE or not line.account:
                continue
            sums = self._of(line.vertical)
            sums.nodes.add(line.node)
            sums.accounts.add(line.account)
            sums.numbers["units"] += line.units
            sums.numbers["incentive"] += int.from_bytes(line.incentive)

    def add_leases(self, settled: Iterable[LeaseSettled]) -> None:
        """Add what buyers' leases delivered; what the network ordered itself is none of that."""
        for one in settled:
            if one.checks:
                continue
            sums, of = self._of(one.vertical), self._of(one.vertical).numbers
            for moved in one.moved:
                sums.pay(moved.credit, moved.income + moved.fee + moved.reserve, moved.fee)
            if one.final:
                of["leases"] += 1
                of["done"] += one.ok
            if one.resources.gpus:
                continue
            of["paid"] += sum(moved.income + moved.fee + moved.reserve for moved in one.moved)
            if one.final:
                of["charged"] += one.resources.cpu_milli * one.charged_ms
                if one.ok:
                    of["cores"] += one.resources.cpu_milli * one.charged_ms
                    of["memory"] += one.resources.memory_mib * one.charged_ms

    def add_subscriptions(self, settled: Iterable[SubscriptionSettled]) -> None:
        """Add what subscriptions paid and delivered; a record that is there twice counts once."""
        for one in settled:
            key = (one.subscription, one.window, one.part)
            if key in self._seen:
                continue
            self._seen.add(key)
            sums = self._of(one.vertical)
            for part in (*(earned.income for earned in one.earned), one.fee, one.reserve):
                for credit, amount in part.items():
                    sums.pay(int(credit), amount, amount if part is one.fee else 0)
            for earned in one.earned:
                sums.accounts.add(earned.payee)
                for used in earned.used:
                    sums.metered[used.meter] += int.from_bytes(used.after) - int.from_bytes(used.before)

    def _of(self, vertical: str) -> _Sums:
        return self._sums.setdefault(vertical, _Sums())
