"""What the network pays for checks: never more than a part of what is left, and of the starting credit than its limits.

The league of `LeagueMachine` does what it likes with its prices, results, times and cancelled orders; the world checks
all invariants of its money after each round, and here what it has is compared with what it began with.
"""

# ruff: noqa: D102 - the names of the machine's steps say what they do

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fallow.adapters.memory.database import MemoryTransaction
from fallow.domain.billing import HOUR_MS, deposit
from fallow.domain.chart import Credit, Purpose, account_id, accounts_of
from fallow.domain.checks import CHECK_MS_MIN, DAY_MS, SHARE, Starting, payable_ms
from fallow.domain.leases import LeaseState
from fallow.domain.orders import Order, Requirements
from fallow.domain.reserve import halves
from fallow.domain.resources import Resources, Terms
from fallow.services.market.starting import StartingCredit
from tests.market_twins import finish
from tests.market_world import World

MONEY = st.integers(0, 10**13)
PRICES = st.integers(0, 10**12)
TIMES = st.integers(1, 7 * DAY_MS)


@given(left=st.integers(-(10**9), 10**13), price=PRICES, limit_ms=TIMES, first_ms=TIMES)
def test_a_check_takes_no_more_than_its_part_of_what_is_left(
    left: int, price: int, limit_ms: int, first_ms: int
) -> None:
    ms = payable_ms(left, price, limit_ms, first_ms)
    assert 0 <= ms <= limit_ms
    assert deposit(price, ms) <= max(0, left) // SHARE
    assert ms == 0 or ms >= min(limit_ms, max(CHECK_MS_MIN, 2 * first_ms))
    if 0 < ms < limit_ms:  # nor much less
        assert price * (ms + 1) > left // SHARE * HOUR_MS


@given(fee=MONEY, reserve=MONEY)
def test_each_part_of_a_fee_counts_once_and_a_buyers_lies_in_the_purse(fee: int, reserve: int) -> None:
    buyers, providers = halves(fee, reserve)
    assert buyers + providers == fee + reserve
    assert 0 <= buyers <= fee
    assert buyers == fee or abs(buyers - providers) <= 1


NODES, DAYS = [bytes([number]) * 32 for number in range(4)], range(3)


@given(
    total=st.integers(0, 10**6),
    wanted=st.lists(st.tuples(st.sampled_from(NODES), st.sampled_from(DAYS), st.integers(0, 10**5), st.booleans())),
)
def test_no_order_of_spending_goes_beyond_a_limit_of_the_starting_credit(
    total: int, wanted: list[tuple[bytes, int, int, bool]]
) -> None:
    limits = Starting(total)
    credit = StartingCredit(limits, {})
    for node, day, amount, kept in wanted:
        taken = min(amount, max(0, credit.left((node, day))))
        credit.add((node, day), taken)
        if not kept:
            credit.add((node, day), -taken)
    spent = credit.spent
    assert sum(spent.values()) <= limits.total
    assert all(sum(spent.get((node, day), 0) for day in DAYS) <= limits.a_node for node in NODES)
    assert all(sum(spent.get((node, day), 0) for node in NODES) <= limits.a_day for day in DAYS)
    again = StartingCredit(limits, spent)
    assert all(again.left((node, day)) == credit.left((node, day)) for node in NODES for day in DAYS)


SAYS = st.lists(st.sampled_from([0, 0, 0, 1, 2]), min_size=1, max_size=4)
BEGAN_WITH = 10**7
ROOM = Resources(cpu_milli=8000, memory_mib=8000, disk_mib=8000)
LIMITS = Starting(400_000)


class LeagueMachine(RuleBasedStateMachine):
    """Three owners and a buyer in league; a purse full of others' money, in both credit classes."""

    starting = LIMITS

    @initialize()
    def begin(self) -> None:
        self.world = World(nodes=6, starting=self.starting)
        self.members = self.world.nodes[::2]
        self.number = 0
        for member in self.members:
            finish(self.world.ledger.open_accounts(MemoryTransaction(), accounts_of(member.account)))
        for credit in (Credit.GRANTED, Credit.PAID):
            self.world.grant(self.world.buyers[0], BEGAN_WITH, credit)
        self.world.fund(10**9)
        self.world.fund_reserve(10**9)
        self.price(0, 360_000)
        self.price(1, 360_000)

    @rule(member=st.integers(0, 2), price=st.sampled_from([0, 1, 360_000, 3_600_000, 10**9]))
    def price(self, member: int, price: int) -> None:
        self.world.offer(self.members[member], ROOM, Terms(price_microusd_per_core_hour=price))
        self.world.round()

    @rule(
        replicas=st.integers(1, 3),
        items=st.sampled_from([0, 0, 5]),
        named=st.sets(st.integers(0, 2)),
        comparable=st.sampled_from([{"compares": True}, {"compares": True}, {"program": "p"}]),
    )
    def order(self, replicas: int, items: int, named: set[int], comparable: dict[str, object]) -> None:
        self.number += 1
        order = Order(
            id=f"{self.number:032x}",
            vertical="compute",
            work=comparable,
            items=["0" * 64] * items,
            replicas=replicas if "compares" in comparable else 1,
            requirements=Requirements(nodes_allowed=[self.members[one].id.hex() for one in named]),
        )
        self.world.submit(order, self.world.buyers[0])
        self.world.round()

    @rule()
    def accept(self) -> None:
        by_id = {node.id: node for node in self.world.nodes}
        for lease in list(self.world.brain.leases.values()):
            if lease.state is LeaseState.PROPOSED:
                self.world.accept(by_id[lease.node], lease.id)
        self.world.round()

    @rule(
        waited_ms=st.sampled_from([0, 1_000, 10_000, 15_000]), says=st.lists(st.sampled_from([0, 0, 1, 2]), min_size=1)
    )
    def report(self, waited_ms: int, says: list[int]) -> None:
        by_id = {node.id: node for node in self.world.nodes}
        self.world.wait(waited_ms)
        for number, lease in enumerate(list(self.world.brain.leases.values())):
            if lease.state is LeaseState.RUNNING:
                said = bytes([says[number % len(says)]]) * 32
                self.world.final(by_id[lease.node], lease.id, lease.window, 1 << 40, result=said)
        self.world.settle()

    @rule(waits=st.lists(st.sampled_from([5_000, 10_000]), min_size=2, max_size=6), says=SAYS)
    def work(self, waits: list[int], says: list[int]) -> None:
        """Take and do whatever comes, as those do who want to be paid."""
        for waited_ms in waits:
            self.accept()
            self.report(waited_ms, says)

    @rule()
    def cancel(self) -> None:
        for job_id in list(self.world.brain.jobs):
            self.world.cancel(job_id, self.world.buyers[0])
        self.world.settle()

    @rule()
    def lose_memory(self) -> None:
        self.world.restart()
        self.world.round()

    @invariant()
    def gains_nothing(self) -> None:
        if hasattr(self, "world"):
            assert self.has(Credit.PAID) <= BEGAN_WITH
            assert self.has(Credit.GRANTED) <= BEGAN_WITH + len(self.members) * LIMITS.a_node

    def has(self, credit: Credit) -> int:
        purses = [(Purpose.WALLET, self.world.buyers[0]), *((Purpose.EARNED, one.account) for one in self.members)]
        balances = [self.world.ledger.accounts[account_id(what, credit, who)].balance for what, who in purses]
        return sum(balance.credits_posted - balance.debits_posted for balance in balances)


LeagueMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
TestLeague = LeagueMachine.TestCase


class _Unbounded(LeagueMachine):
    starting = Starting(10**9)


def test_a_league_without_bounds_is_found() -> None:
    """The machine's hostile twin: with as much starting credit as there is in the purse such a league does gain."""
    machine = _Unbounded()
    machine.begin()
    machine.price(0, 1)
    machine.price(1, 3_600_000)
    for _ in range(4):
        machine.order(1, 0, {0, 1}, {"compares": True})
        machine.work([10_000, 10_000], [0])
    with pytest.raises(AssertionError):
        machine.gains_nothing()
