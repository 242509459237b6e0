"""Spot: cheaper capacity that an order on demand may take back, politely, and without selling anything twice."""

from __future__ import annotations

from typing import Any

import pytest

from fallow.domain.jobs import ItemState, JobState
from fallow.domain.leases import PREEMPTED, Lease, LeaseState
from fallow.domain.matching import why_not
from fallow.domain.orders import Order, Requirements
from fallow.domain.resources import Resources, Terms
from fallow.services.market.course import GIVE_WAY_MS
from fallow.services.market.dispatch import wish_of
from fallow.services.market.show import quote
from tests.market_twins import Node
from tests.market_world import World, failed

TWO = Resources(cpu_milli=2000, memory_mib=8000, disk_mib=8000)
FULL, SPOT = Terms(price_microusd_per_core_hour=360_000), Terms(price_microusd_per_core_hour=180_000)  # 100 and 50 a s


def order(number: int, *, spot: bool = False, items: int = 0, cpu: int = 1000, **fields: Any) -> Order:
    return Order(
        id=f"{number:032x}",
        vertical="compute",
        work=fields.pop("work", {}),
        items=[f"{index:064x}" for index in range(items)],
        requirements=Requirements(cpu_milli=cpu),
        spot=spot,
        **fields,
    )


@pytest.fixture
def world() -> World:
    """One node with two cores that takes spot leases; each buyer has a dollar."""
    world = World(nodes=6)
    for buyer in world.buyers:
        world.grant(buyer, 1_000_000)
    world.offer(world.nodes[0], TWO, FULL, spot=SPOT)
    world.round()
    return world


def submit(world: World, wanted: Order, buyer: int = 0) -> list[Lease]:
    """Order it; returns the leases that it got."""
    answer = world.submit(wanted, world.buyers[buyer])
    world.round()
    assert not failed(answer)
    return of(world, wanted)


def of(world: World, wanted: Order) -> list[Lease]:
    return [lease for lease in world.brain.leases.values() if lease.job == wanted.id]


def accept(world: World, *leases: Lease) -> None:
    nodes = {node.id: node for node in world.nodes}
    for lease in leases:
        world.accept(nodes[lease.node], lease.id)
    world.round()


def give_way(world: World, node: Node, lease: Lease, **fields: Any) -> None:
    """A node that was told to stop says what it did until then."""
    told = {"ok": False, "result": None, "reason": "buyer.cancelled", "caused_by": "buyer", **fields}
    world.final(node, lease.id, lease.window, 1000, **told)
    world.settle()


def test_spot_costs_the_spot_price_and_runs_only_where_there_is_one(world: World) -> None:
    world.offer(world.nodes[2], TWO, Terms(price_microusd_per_core_hour=1))
    (cheap,) = submit(world, order(1, spot=True))
    assert (cheap.node, cheap.price_microusd_per_hour, cheap.spot) == (world.nodes[0].id, 180_000, True)
    (other,) = submit(world, order(2))
    assert (other.node, other.price_microusd_per_hour, other.spot) == (world.nodes[2].id, 1, False)
    wish = wish_of(order(3, spot=True), world.brain.jobs[order(1).id].job.needs)
    assert why_not(world.brain.places(world.now), wish)["spot"] == 1


def test_an_order_on_demand_takes_what_it_needs_and_no_more_the_latest_first(world: World) -> None:
    spot, wanted = order(1, spot=True, items=2), order(2)
    first, second = submit(world, spot)
    accept(world, first)
    world.wait(10)
    accept(world, second)
    assert submit(world, wanted, buyer=1) == []
    assert world.sent.stops == [(world.nodes[0].id, second.id)]
    for _ in range(3):  # while the node ends it nothing more is taken
        world.wait(250)
        world.settle()
    assert len(world.sent.stops) == 1
    assert of(world, wanted) == []
    give_way(world, world.nodes[0], second)
    (lease,) = of(world, wanted)
    assert (lease.node, lease.price_microusd_per_hour) == (world.nodes[0].id, 360_000)
    ended = world.store.lease(second.id)
    assert (ended.reason, ended.caused_by, ended.owed_microusd) == (PREEMPTED, "owner", 0)
    assert world.brain.leases[first.id].state is LeaseState.RUNNING
    assert world.brain.jobs[spot.id].items[1].state is ItemState.WAITING
    assert world.brain.jobs[spot.id].items[1].shunned == ()


def test_spot_work_that_waits_does_not_snatch_the_room_that_is_made(world: World) -> None:
    running = submit(world, order(1, spot=True, items=3))
    accept(world, *running)
    wanted = order(2, cpu=2000)
    submit(world, wanted, buyer=1)
    assert len(world.sent.stops) == 2
    give_way(world, world.nodes[0], running[0])  # one core is free, two are needed
    assert of(world, wanted) == []
    assert [lease.id for lease in of(world, order(1))] == [running[1].id]
    give_way(world, world.nodes[0], running[1])
    assert len(of(world, wanted)) == 1
    assert of(world, order(1)) == []


def test_what_was_done_just_in_time_is_a_result_and_is_paid(world: World) -> None:
    running = submit(world, order(1, spot=True, items=2))
    accept(world, *running)
    submit(world, order(2), buyer=1)
    ((_, stopped),) = world.sent.stops
    world.wait(1000)
    give_way(
        world, world.nodes[0], world.brain.leases[stopped], ok=True, result=bytes(32), reason="", caused_by="nobody"
    )
    assert world.store.lease(stopped).owed_microusd == 50
    done = world.brain.jobs[order(1).id].items[world.store.lease(stopped).item]
    assert done.state is ItemState.DONE
    assert len(of(world, order(2))) == 1


def test_a_checkpoint_of_a_preempted_lease_is_where_the_next_one_goes_on(world: World) -> None:
    (running,) = submit(world, order(1, spot=True, cpu=2000, work={"checkpoints": True}))
    accept(world, running)
    world.wait(1000)
    world.save(world.nodes[0], running.id, 900, b"c" * 32)
    world.settle()
    submit(world, order(2, cpu=2000), buyer=1)
    give_way(world, world.nodes[0], running)
    world.offer(world.nodes[2], TWO, FULL, spot=SPOT)
    world.settle()
    (again,) = of(world, order(1))
    assert again.resume == (b"c" * 32).hex()
    assert world.store.lease(running.id).owed_microusd == 90, "what is in it is of use, and paid"


def test_a_process_that_is_preempted_is_paid_so_far_and_goes_on_elsewhere(world: World) -> None:
    (running,) = submit(world, order(1, spot=True, cpu=2000, until_stopped=True))
    accept(world, running)
    submit(world, order(2, cpu=2000), buyer=1)
    world.wait(1000)
    give_way(world, world.nodes[0], running, ok=True, result=bytes(32), reason="", caused_by="nobody")
    assert world.store.lease(running.id).owed_microusd == 100
    (job,) = [job for job in world.store.all_jobs() if job.order.id == order(1).id]
    assert job.state is JobState.RUNNING
    world.offer(world.nodes[2], TWO, FULL, spot=SPOT)
    world.settle()
    assert [lease.node for lease in of(world, order(1))] == [world.nodes[2].id]


def test_nothing_is_taken_for_who_cannot_pay_or_from_who_pays_in_full(world: World) -> None:
    accept(world, *submit(world, order(1, spot=True)), *submit(world, order(2)))
    submit(world, order(3, cpu=2000), buyer=1)  # half of the node is on demand already
    submit(world, order(4, budget_microusd=999, time_limit_s=10), buyer=1)  # it would take 1000
    submit(world, order(5, max_price_microusd_per_hour=359_999), buyer=1)
    submit(world, order(6, spot=True), buyer=1)  # spot takes nothing from spot
    world.wait(250)
    world.settle()
    assert world.sent.stops == []
    submit(world, order(7, budget_microusd=1000, time_limit_s=10), buyer=1)
    assert len(world.sent.stops) == 1


def test_who_does_not_give_way_is_not_waited_for(world: World) -> None:
    world.offer(world.nodes[2], TWO, FULL, spot=SPOT)
    running = submit(world, order(1, spot=True, items=2, cpu=2000))
    accept(world, *running)
    submit(world, order(2, cpu=2000), buyer=1)
    ((stubborn, _),) = world.sent.stops
    world.wait(GIVE_WAY_MS - 1)
    world.settle()
    assert len(world.sent.stops) == 1
    world.wait(1)
    world.settle()
    assert {node for node, _ in world.sent.stops} == {world.nodes[0].id, world.nodes[2].id}
    (other,) = [lease for lease in running if lease.node != stubborn]
    give_way(world, next(node for node in world.nodes if node.id == other.node), other)
    assert [lease.node for lease in of(world, order(2))] == [other.node]


def test_a_node_that_gave_way_is_not_left_in_peace(world: World) -> None:
    accept(world, *submit(world, order(1, spot=True, cpu=2000)))
    submit(world, order(2, cpu=2000), buyer=1)
    ((_, stopped),) = world.sent.stops
    give_way(world, world.nodes[0], world.brain.leases[stopped])
    assert len(of(world, order(2))) == 1, "in the same round"


def test_a_quote_shows_both_prices(world: World) -> None:
    world.offer(world.nodes[2], TWO, Terms(price_microusd_per_core_hour=300_000))
    submit(world, order(1))
    needs = world.brain.jobs[order(1).id].job.needs
    for spot, price, count in ((False, 300_000, 2), (True, 180_000, 1)):
        shown = quote(world.brain, wish_of(order(2, spot=spot), needs), 10_000, world.now)
        assert (shown.on_demand_microusd_per_hour, shown.spot_microusd_per_hour) == (300_000, 180_000)
        assert (shown.price_microusd_per_hour, len(shown.candidates)) == (price, count)
        assert shown.candidates[0].price_microusd_per_hour == price
    world.ban(world.nodes[0].id)
    world.settle()
    assert quote(world.brain, wish_of(order(2), needs), 10_000, world.now).spot_microusd_per_hour is None
