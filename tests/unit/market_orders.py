"""One market, its first node and its first buyer, for tests of the rules one by one."""

from __future__ import annotations

from typing import Any

import pytest

from fallow.domain.leases import LeaseState
from fallow.domain.orders import Order
from fallow.domain.resources import Resources, Terms
from tests.market_world import World, failed

BIG = Resources(cpu_milli=8000, memory_mib=8000, disk_mib=8000)
CHEAP = Terms(price_microusd_per_core_hour=360_000)  # 100 micro-US-dollars a second
COMPARES = {"compares": True}


def order(number: int = 1, items: int = 0, work: dict[str, Any] | None = None, **fields: object) -> Order:
    hashes = [f"{index:064x}" for index in range(items)]
    return Order(id=f"{number:032x}", vertical="compute", work=work or {}, items=hashes, **fields)  # type: ignore[arg-type]


@pytest.fixture
def world() -> World:
    """Six nodes of three owners, of which the first has an offer; the first buyer has a dollar."""
    world = World(nodes=6)
    world.grant(world.buyers[0], 1_000_000)
    world.offer(world.nodes[0], BIG, CHEAP)
    world.round()
    return world


def submit(world: World, wanted: Order) -> None:
    answer = world.submit(wanted, world.buyers[0])
    world.round()
    assert not failed(answer)


def accept_all(world: World) -> list[bytes]:
    nodes = {node.id: node for node in world.nodes}
    proposed = [lease for lease in world.brain.leases.values() if lease.state is LeaseState.PROPOSED]
    for lease in proposed:
        world.accept(nodes[lease.node], lease.id)
    world.round()
    return [lease.id for lease in proposed]


def run_for(world: World, lease: bytes, seconds: int, before_s: int = 0) -> None:
    """Work honestly: a checkpoint every 4 s, a receipt for each window of 10 s."""
    node = next(one for one in world.nodes if one.id == world.brain.leases[lease].node)
    for second in range(before_s + 1, seconds + 1):
        world.wait(1000)
        if second % 4 == 0:
            world.save(node, lease, second * 1000, second.to_bytes(32, "big"))
        if second % 10 == 0 and second < seconds:
            world.interim(node, lease, second // 10 - 1, 10_000)
        world.settle()
