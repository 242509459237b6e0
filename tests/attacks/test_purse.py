"""Farming the purse that the network pays checks from: owners and a buyer in league, who have it pay them.

The market's real rounds with a real ledger in memory; what the league has is compared before and after. Tests print
what it got.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from fallow.adapters.memory.database import MemoryTransaction
from fallow.domain.billing import HOUR_MS, FeePolicy
from fallow.domain.canaries import check_planted
from fallow.domain.chart import NETWORK, Credit, Kind, Purpose, account_id, accounts_of
from fallow.domain.checks import Starting
from fallow.domain.errors import InvalidInput
from fallow.domain.jobs import Item, ItemState, Needs
from fallow.domain.leases import Lease, LeaseState
from fallow.domain.orders import Order, Requirements, Tolerance
from fallow.domain.reserve import Tally
from fallow.domain.resources import Resources, Terms
from fallow.domain.verification import TRUSTED_AFTER
from fallow.services.market.course import NOT_COVERED
from fallow.services.market.inputs import Submission
from tests.market_invariants import DAY_MS
from tests.market_twins import Node, finish
from tests.market_world import WINDOW_MS, World, buyer, failed

USED_MS = 5_000
STARTING = Starting(1_000_000)
"""A node can get 10,000 micro-US-dollars of it, and all of them 100,000 a day."""

FAIR = 360_000
"""A core's price an hour: an item of 5 s costs 500 micro-US-dollars."""

DESCENDING = [FAIR * 2**power // 8 for power in range(8, -1, -1)]

LEAGUE, HONEST = buyer(0), buyer(1)

Says = Callable[[Lease], bytes]


def truth(_: Lease) -> bytes:
    """What the program gives."""
    return bytes(32)


def anything(lease: Lease) -> bytes:
    """Another result each time."""
    return lease.id * 2


class Town:
    """A network with two buyers; every node has an owner and a line of its own."""

    def __init__(
        self,
        nodes: int,
        starting: Starting = STARTING,
        *,
        funded: bool = True,
        fee: FeePolicy = FeePolicy(),  # noqa: B008 - immutable
    ) -> None:
        self.world = World(nodes=2 * nodes, starting=starting, fee=fee)
        self.nodes = self.world.nodes[::2]
        self.number = 0
        for node in self.nodes:
            finish(self.world.ledger.open_accounts(MemoryTransaction(), accounts_of(node.account)))
        if funded:
            self.world.fund(starting.total)

    def sell(self, price: int, *nodes: Node, cores: int = 8) -> None:
        """Put nodes on the market at a price for a core and hour; an item takes one."""
        room = Resources(cpu_milli=1000 * cores, memory_mib=8000, disk_mib=8000)
        for node in nodes:
            self.world.offer(node, room, Terms(price_microusd_per_core_hour=price))
        self.world.round()

    def buy(
        self,
        account: bytes,
        nodes: Sequence[Node] = (),
        *,
        says: Says = truth,
        used_ms: int = USED_MS,
        replicas: int = 1,
        items: int = 0,
        late: frozenset[bytes] = frozenset(),
        cancel: bool = False,
    ) -> list[Item]:
        """Buy work, on `nodes` alone if some are named; whoever runs it says what he is told to.

        The `late` report nothing until they are stopped; with `cancel` their buyer does that.
        """
        world, self.number = self.world, self.number + 1
        order = Order(
            id=f"{self.number:032x}",
            vertical="compute",
            work={"compares": True},
            items=["0" * 64] * items,
            replicas=replicas,
            requirements=Requirements(nodes_allowed=[node.id.hex() for node in nodes]),
        )
        world.submit(order, account)
        world.round()
        by_id = {node.id: node for node in world.nodes}
        while order.id in world.brain.jobs:
            for lease in list(world.brain.leases.values()):
                if lease.state is LeaseState.PROPOSED:
                    world.accept(by_id[lease.node], lease.id)
                elif lease.state is LeaseState.RUNNING and lease.stop_reason:
                    world.final(by_id[lease.node], lease.id, 0, 1 << 40, ok=False, caused_by="buyer")
                elif lease.state is LeaseState.RUNNING and lease.node not in late:
                    world.final(by_id[lease.node], lease.id, 0, used_ms, result=says(lease))
            world.wait(used_ms)
            if cancel and any(lease.payer == NETWORK for lease in world.brain.leases.values()):
                world.cancel(order.id, account)
            world.settle()
        job = next(job for job in world.store.all_jobs() if job.order.id == order.id)
        return world.store.items_of(job)

    def has(self, credit: Credit, account: bytes, *nodes: Node) -> int:
        """All that an account and the owners of nodes have of a credit class."""
        purses = [(Purpose.WALLET, account), *((Purpose.EARNED, node.account) for node in nodes)]
        balances = [self.world.ledger.accounts[account_id(what, credit, who)].balance for what, who in purses]
        return sum(balance.credits_posted - balance.debits_posted for balance in balances)

    def by_network(self, credit: Credit, *nodes: Node) -> int:
        """What the network paid to the owners of nodes."""
        network = {lease.id for lease in self.world.store.all_leases() if lease.payer == NETWORK}
        earned = {account_id(Purpose.EARNED, credit, node.account) for node in nodes}
        log = self.world.ledger.log.values()
        return sum(one.amount for one in log if one.ref in network and one.code == Kind.INCOME and one.credit in earned)

    @property
    def spent(self) -> int:
        """What is gone of the starting credit."""
        return sum(self.world.brain.starting.spent.values())


def test_a_league_gets_the_starting_credit_of_its_nodes_and_then_loses() -> None:
    """It names its own nodes. One sells for next to nothing, the other checks it, at the highest price that is paid."""
    town = Town(2)
    cheap, dear = town.nodes
    town.world.grant(LEAGUE, 10**6)
    gains = []
    for price in DESCENDING:
        town.sell(1, cheap)
        town.sell(price, dear)
        for _ in range(4):
            town.buy(LEAGUE, town.nodes, used_ms=WINDOW_MS)
            gains.append(town.has(Credit.GRANTED, LEAGUE, cheap, dear) - 10**6)
    print(f"the league gains at most {max(gains)} TEST, of {STARTING.total} in the purse")
    assert 0 < max(gains) <= STARTING.a_node
    town.sell(FAIR, cheap, dear)
    for _ in range(3):
        town.buy(LEAGUE, town.nodes, items=100)
        gains.append(town.has(Credit.GRANTED, LEAGUE, cheap, dear) - 10**6)
    print(f"after {gains.index(max(gains))} of {len(gains)} deals it has most, in the end {gains[-1]}")
    assert max(gains) <= 2 * STARTING.a_node
    assert gains[-1] < max(gains)


def test_new_nodes_bring_a_league_no_more_than_a_days_part_of_the_starting_credit() -> None:
    town = Town(30)
    town.world.grant(LEAGUE, 10**7)
    town.sell(2 * FAIR, *town.nodes, cores=1)
    for day in range(2):
        town.buy(LEAGUE, items=120, used_ms=WINDOW_MS)
        gained = town.by_network(Credit.GRANTED, *town.nodes)
        print(f"after {day + 1} days {len(town.nodes)} nodes got {gained} TEST of {STARTING.total}")
        assert 0 < gained <= (day + 1) * STARTING.a_day
        town.world.wait(DAY_MS)


def honest_town() -> tuple[Town, list[Node]]:
    """A town in which an honest buyer has paid real money for work of two proven nodes, and one more is new."""
    town = Town(5)
    honest = town.nodes[2:]
    town.world.grant(HONEST, 10**8, Credit.PAID)
    town.world.grant(LEAGUE, 10**6, Credit.PAID)
    town.sell(100 * FAIR, *honest[:2])
    for node in honest[:2]:
        town.world.prove(node)
    town.buy(HONEST, honest[:2], items=10)
    town.sell(FAIR, *honest[:2])
    town.sell(FAIR - 1, honest[2])
    return town, honest


def counts(town: Town, nodes: Sequence[Node]) -> list[int]:
    """What may still be paid on the accounts of nodes, in real money."""
    tallies = town.world.brain.tallies
    return [tallies.get((node.account, Credit.PAID), Tally()).left for node in nodes]


def test_no_money_of_others_ever_pays_a_league() -> None:
    """There is real money in the purse: what an honest buyer paid. None of it is to be had, at any price."""
    town, honest = honest_town()
    cheap, dear = town.nodes[:2]
    fee = town.world.ledger.accounts[account_id(Purpose.FEE, Credit.PAID)].balance
    assert fee.credits_posted - fee.debits_posted > 10_000
    before = town.has(Credit.PAID, LEAGUE, cheap, dear)
    town.sell(1, cheap)
    for price in (1, FAIR, 10 * FAIR, 100 * FAIR):
        town.sell(price, dear)
        for replicas in (1, 2):
            for says in (truth, anything):
                town.buy(LEAGUE, (cheap, dear), says=says, replicas=replicas)
        assert town.has(Credit.PAID, LEAGUE, cheap, dear) <= before
    # Neither do honest nodes pay for it that such a buyer names beside one of the league.
    left = counts(town, honest)
    for node in honest:
        town.buy(LEAGUE, (node, dear))
    assert all(after >= before for after, before in zip(counts(town, honest), left, strict=True))
    assert town.has(Credit.PAID, LEAGUE, cheap, dear) < before
    # And the honest buyer's work on a new node is checked as before.
    assert [item.checked for item in town.buy(HONEST, (honest[2], honest[0]))] == [True]


def test_what_a_buyers_fees_pay_back_is_less_than_he_paid() -> None:
    """Without a starting credit a league loses from the first item on, however it deals."""
    town = Town(3, Starting(0))
    town.world.grant(LEAGUE, 10**7, Credit.PAID)
    town.sell(FAIR, *town.nodes)
    has = [town.has(Credit.PAID, LEAGUE, *town.nodes)]
    for says, replicas, items in (
        (truth, 1, 200),
        (anything, 1, 10),
        (anything, 2, 10),
        (truth, 2, 20),
        (truth, 1, 50),
    ):
        town.buy(LEAGUE, says=says, replicas=replicas, items=items)
        has.append(town.has(Credit.PAID, LEAGUE, *town.nodes))
    assert max(has[1:]) < has[0]
    lost, back = has[0] - has[-1], town.by_network(Credit.PAID, *town.nodes)
    print(f"the league paid {lost + back} in fees and got {back} back by checks")
    assert 0 < back <= (lost + back) // 2 + 1


def test_a_check_that_nobody_pays_leaves_others_alone() -> None:
    """One order asks for a check that no purse covers; in the same round another's is ordered all the same."""
    town, honest = honest_town()
    cheap, dear = town.nodes[:2]
    town.sell(1, cheap)
    town.sell(10**11, dear)
    assert [item.checked for item in town.buy(LEAGUE, (cheap, dear))] == [False]
    assert not town.world.brain.unfunded
    assert [item.checked for item in town.buy(HONEST, (honest[2], honest[1]))] == [True]


def test_planted_work_says_what_it_may_cost() -> None:
    """The network pays for it whatever nodes ask, so that its operator has to say how much they may."""
    fields: dict[str, Any] = {"id": "f" * 32, "vertical": "compute", "work": {}}
    check_planted(Order(**fields, replicas=2, max_price_microusd_per_hour=FAIR))
    for code, asked in (
        ("checks.price", {"replicas": 2}),
        ("checks.budget", {"replicas": 2, "max_price_microusd_per_hour": FAIR, "budget_microusd": 10}),
        ("checks.replicas", {"max_price_microusd_per_hour": FAIR}),
        ("checks.exact", {"replicas": 2, "compare": "tolerance", "tolerance": Tolerance(rtol="0.1")}),
    ):
        with pytest.raises(InvalidInput) as refused:
            check_planted(Order(**fields, **asked))
        assert refused.value.code == code


def test_planted_work_that_the_purse_cannot_pay_leaves_checks_alone() -> None:
    """It waits for money, as a buyer's does; checks have what counts for their buyers."""
    town, honest = honest_town()
    dear = town.nodes[1]
    town.sell(10**11, dear)
    order = Order(
        id="f" * 32, vertical="compute", work={}, requirements=Requirements(nodes_allowed=[dear.id.hex()]), replicas=2
    )
    planted = town.world.ask(Submission(order, buyer(9), Needs(compares=True), planted=True))
    town.world.settle()
    assert not failed(planted)
    assert town.world.brain.unfunded == {NETWORK}
    assert [item.checked for item in town.buy(HONEST, (honest[2], honest[1]))] == [True]


def test_a_check_that_the_purse_does_not_hold_is_done_without_and_counts_for_nobody() -> None:
    """More counts than there is: an operator who planted more than he had put there, say."""
    town = Town(2, funded=False)
    town.world.grant(HONEST, 10**6)
    town.sell(FAIR, *town.nodes)
    (item,) = town.buy(HONEST)
    (check,) = (lease for lease in town.world.store.all_leases() if lease.payer == NETWORK)
    assert (check.reason, check.caused_by, check.owed_microusd) == (NOT_COVERED, "network", 0)
    assert (item.state, item.checked) == (ItemState.DONE, False)
    assert (town.spent, town.world.brain.unfunded) == (0, set())


def test_who_drags_a_check_is_stopped_and_paid_no_longer_than_it_is_covered() -> None:
    town = Town(2)
    cheap, dear = town.nodes
    town.world.grant(LEAGUE, 10**6)
    town.sell(1, cheap)
    town.sell(2 * FAIR, dear)  # a quarter of the starting credit's 10,000 pays for 12.5 s, and a window is a minute
    town.world.window_ms = 60_000
    town.world.restart()
    (item,) = town.buy(LEAGUE, town.nodes, late=frozenset({dear.id}))
    (check,) = (lease for lease in town.world.store.all_leases() if lease.payer == NETWORK)
    assert (check.reason, check.caused_by, check.covered_ms, check.used_ms) == (NOT_COVERED, "network", 12_500, 12_500)
    assert check.owed_microusd == 2_500
    assert (item.state, item.checked) == (ItemState.DONE, False)
    assert not town.world.brain.judging.standings


def test_a_check_that_its_buyer_breaks_off_is_paid_from_what_counts_for_him() -> None:
    town, honest = honest_town()
    dear, before = town.nodes[1], town.has(Credit.PAID, LEAGUE, town.nodes[1])
    town.sell(2 * FAIR, dear)
    left = counts(town, honest)
    town.buy(LEAGUE, (honest[2], dear), late=frozenset({dear.id}), cancel=True)
    assert town.has(Credit.PAID, LEAGUE, dear) < before
    assert all(after >= before for after, before in zip(counts(town, honest), left, strict=True))


def test_honest_new_nodes_are_proven_on_the_starting_credit() -> None:
    """How many newcomers it carries: a check confirms two of them, so that less than ten a node are enough."""
    town = Town(12, Starting())
    town.world.grant(HONEST, 10**9)
    town.sell(FAIR, *town.nodes, cores=1)
    standing = town.world.brain.judging.standing
    items = 0
    while any(standing(node.id).confirmed < TRUSTED_AFTER for node in town.nodes):
        items += 12
        assert items <= 12 * TRUSTED_AFTER
        town.buy(HONEST, items=12)
    a_node = town.spent / len(town.nodes)
    price = USED_MS * FAIR // HOUR_MS
    print(f"{items} items, {a_node / price:.1f} items' price a node: it carries {Starting().total / a_node:.0f} nodes")
    assert a_node <= (TRUSTED_AFTER - 1) * price
    assert town.spent <= Starting().a_day


def test_honest_new_nodes_are_proven_on_fees_alone() -> None:
    """When nothing of the starting credit is left a buyer's fees pay for a check of every eighteenth result or so."""
    town = Town(2, Starting(0))
    town.world.grant(HONEST, 10**9, Credit.PAID)
    town.sell(FAIR, *town.nodes)
    standing = town.world.brain.judging.standing
    items = 0
    while any(standing(node.id).confirmed < TRUSTED_AFTER for node in town.nodes):
        items += 100
        assert items <= 1_000
        town.buy(HONEST, items=100)
    print(f"{items} items prove {len(town.nodes)} nodes")
