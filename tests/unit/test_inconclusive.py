"""Results that differ and decide nothing: who is paid, and who pays."""

from __future__ import annotations

from typing import Any

import pytest

from fallow.domain.jobs import ItemState
from fallow.domain.leases import Lease
from fallow.domain.reserve import NOT_EARNED
from fallow.domain.verification import INCONCLUSIVE
from tests.market_world import World
from tests.unit.market_orders import BIG, CHEAP, COMPARES, accept_all, order, submit


@pytest.fixture
def world() -> World:
    """Nodes of two owners, so that nobody is there to decide between them; a buyer who has paid 50,000 so far."""
    world = World(nodes=6)
    world.grant(world.buyers[0], 1_000_000)
    world.fund_reserve(1_000_000)
    world.offer(world.nodes[0], BIG, CHEAP)  # 1000 for 10 s
    world.round()
    submit(world, order(1, items=50, time_limit_s=10, work={}))
    while world.brain.jobs:
        leases = accept_all(world)
        world.wait(10_000)
        for lease in leases:
            world.final(world.nodes[0], lease, 0, 10_000)
        world.settle()
    world.offer(world.nodes[2], BIG, CHEAP)
    world.settle()
    return world


def differ(world: World, *, other: dict[str, Any] | None = None, write_fails: bool = False) -> list[Lease]:
    """Two nodes say different things of one item, and no third one is there."""
    submit(world, order(2, work=COMPARES, replicas=2))
    leases = accept_all(world)
    nodes = {node.id: node for node in world.nodes}
    world.wait(5_000)
    says: list[dict[str, Any]] = [{}, other or {"result": b"1" * 32}]
    for lease, fields in zip(leases, says, strict=True):
        world.final(nodes[world.brain.leases[lease].node], lease, 0, 5_000, **fields)
    world.db.fail = write_fails
    world.settle()
    return [world.store.lease(lease) for lease in leases]


def owed(world: World) -> int:
    job = next(job for job in world.store.all_jobs() if job.order.id == order(2).id)
    (item,) = world.store.items_of(job)
    assert (item.state, item.reason) == (ItemState.FAILED, INCONCLUSIVE)
    return item.owed_microusd


def test_who_disagrees_is_paid_and_the_buyer_gets_it_back_from_the_reserve(world: World) -> None:
    for lease in differ(world):
        assert (lease.reason, lease.caused_by, lease.used_ms) == (INCONCLUSIVE, "nobody", 5_000)
        assert (lease.owed_microusd, lease.refunded_microusd, lease.reserve_short) == (500, 500, "")
    assert owed(world) == 0
    assert not world.store.evidence


def test_a_buyer_who_says_himself_that_results_must_be_equal_pays_for_what_differs(world: World) -> None:
    answer = world.submit(order(2, work={**COMPARES, "buyers_word": True}, replicas=2), world.buyers[0])
    world.round()
    assert answer.error is None
    leases = accept_all(world)
    nodes = {node.id: node for node in world.nodes}
    world.wait(1_000)
    for lease, result in zip(leases, (bytes(32), b"1" * 32), strict=True):
        world.final(nodes[world.brain.leases[lease].node], lease, 0, 500, result=result)
    world.settle()
    assert [world.store.lease(lease).refunded_microusd for lease in leases] == [0, 0]
    assert owed(world) > 0


def test_a_program_that_some_machines_could_not_finish_is_its_buyers_affair(world: World) -> None:
    failed = {"ok": False, "result": None, "reason": "program.failed", "caused_by": "buyer"}
    assert [lease.refunded_microusd for lease in differ(world, other=failed)] == [0, 0]
    assert owed(world) == 1000


def test_a_buyer_without_a_history_gets_back_what_his_and_their_fees_allow(world: World) -> None:
    world.buyers.reverse()
    world.grant(world.buyers[0], 1_000_000)
    first, second = sorted(differ(world), key=lambda lease: lease.refunded_microusd)
    # The second owner earned nothing before: half of this lease's fee counts for him, half of both for the buyer.
    assert (second.refunded_microusd, second.reserve_short) == (500, "")
    assert (first.refunded_microusd, first.reserve_short) == (50, NOT_EARNED)
    assert owed(world) == 1000 - 500 - first.refunded_microusd


def test_it_counts_once_although_the_transaction_is_lost(world: World) -> None:
    leases = differ(world, write_fails=True)
    assert [lease.refunded_microusd for lease in leases] == [500, 500]
    assert owed(world) == 0
