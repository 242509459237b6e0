"""A buyer who owns the nodes that he buys from, and owners who check each other's work: neither gains anything.

The market's real rounds with a real ledger in memory; the purses are compared before and after.
"""

from __future__ import annotations

import pytest

from fallow.adapters.memory.database import MemoryTransaction
from fallow.domain.chart import Credit, Purpose, account_id, accounts_of
from fallow.domain.leases import LeaseState
from fallow.domain.orders import Order
from fallow.domain.resources import Resources, Terms
from tests.market_twins import finish
from tests.market_world import World, failed

ROOM = Resources(cpu_milli=8000, memory_mib=8000, disk_mib=8000)
PRICE = Terms(price_microusd_per_core_hour=3_600_000)  # 1000 micro-US-dollars a second
GRANTED = 1_000_000
USED_MS = 5_000


@pytest.fixture
def world() -> World:
    """Two nodes of one owner, who has credits to buy with; the network's purse for checks is full."""
    return with_nodes(2)


def with_nodes(count: int) -> World:
    """The first two are the buyer's own."""
    world = World(nodes=count)
    owner = world.nodes[0].account
    finish(world.ledger.open_accounts(MemoryTransaction(), accounts_of(owner)))
    world.buyers.append(owner)
    world.grant(owner, GRANTED)
    world.fund(GRANTED)
    for node in world.nodes:
        world.offer(node, ROOM, PRICE)
    world.round()
    return world


def purse(world: World, purpose: Purpose, owner: bytes = b"") -> int:
    """What is in a purse of granted credits."""
    balance = world.ledger.accounts[account_id(purpose, Credit.GRANTED, owner)].balance
    return balance.credits_posted - balance.debits_posted


def deal_with_oneself(world: World, *, replicas: int) -> None:
    """Buy from the own nodes, and report what pays best, until the job has ended."""
    work = {"compares": True}
    order = Order(id="0" * 32, vertical="compute", work=work, items=[], replicas=replicas)
    answer = world.submit(order, world.nodes[0].account)
    nodes = {node.id: node for node in world.nodes}
    for _ in range(20):
        world.round()
        for lease in list(world.brain.leases.values()):
            if lease.state is LeaseState.PROPOSED:
                world.accept(nodes[lease.node], lease.id)
            elif lease.state is LeaseState.RUNNING:
                world.final(nodes[lease.node], lease.id, 0, USED_MS)
        world.wait(USED_MS)
    assert not failed(answer)
    assert not world.brain.jobs


@pytest.mark.parametrize("replicas", [1, 2])
def test_dealing_with_oneself_costs_the_fee(world: World, replicas: int) -> None:
    owner, fees = world.nodes[0].account, purse(world, Purpose.FEE)
    deal_with_oneself(world, replicas=replicas)
    spent = GRANTED - purse(world, Purpose.WALLET, owner)
    earned = purse(world, Purpose.EARNED, owner)
    gained = purse(world, Purpose.FEE) - fees + purse(world, Purpose.RESERVE)
    assert spent == earned + gained
    assert spent > earned > 0
    assert 10 * gained == pytest.approx(spent, abs=20)  # the fee of ten per cent, and nothing comes back


def test_own_work_gives_no_trust_although_a_stranger_confirms_it() -> None:
    world = with_nodes(3)
    stranger = world.nodes[2]
    deal_with_oneself(world, replicas=2)
    leases = world.store.all_leases()
    assert {lease.payee for lease in leases} == {world.nodes[0].account, stranger.account}
    assert all(lease.ok for lease in leases)
    assert world.brain.judging.standing(stranger.id).confirmed == 0  # a buyer's own node confirms nobody
    assert all(world.brain.judging.standing(node.id).confirmed == 0 for node in world.nodes)
    assert not world.brain.judging.canaries.known


def test_no_check_is_given_to_a_node_of_the_buyer() -> None:
    """A stranger did his work: the network has it checked by nobody rather than by the buyer."""
    world = with_nodes(3)
    stranger = world.nodes[2]
    world.offer(stranger, ROOM, Terms(price_microusd_per_core_hour=1))
    world.round()
    deal_with_oneself(world, replicas=1)
    (lease,) = world.store.all_leases()
    assert (lease.node, lease.ok) == (stranger.id, True)


def test_who_deals_with_himself_is_paid_for_no_check_and_gains_no_trust(world: World) -> None:
    deal_with_oneself(world, replicas=2)
    leases = world.store.all_leases()
    assert len(leases) == 1  # his other node may not confirm the first, so nothing is ordered at the network's cost
    assert all(lease.payer == world.nodes[0].account for lease in leases)
    assert all(world.brain.judging.standing(node.id).confirmed == 0 for node in world.nodes)
