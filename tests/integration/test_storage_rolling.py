"""What nodes were used for, told once a node and hour: as much as their orders make, whatever dies meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from fallow.adapters.postgres.decisions import PostgresDecisionStore
from fallow.domain.decisions import Decision
from fallow.domain.epochs.paid_use import Comparison, PaidUse
from fallow.domain.merkle import merkle_root
from fallow.domain.network_facts import LendingUsed
from fallow.domain.records import Body
from fallow.ports.database import Transaction
from fallow.verticals.storage.core.layout import SEGMENT_BYTES, Layout
from fallow.verticals.storage.core.tariff import EGRESS, HOUR_MS, STORED
from tests.epoch_files import NETWORK_KEY
from tests.epoch_world import filed
from tests.places_world import Machine, World, machines, places_world


@pytest.fixture
async def world(postgres_dsn: str) -> AsyncIterator[World]:
    async with places_world(postgres_dsn) as made:
        await made.enrol(*machines(10))
        await made.subscribe()
        yield made


async def decided(world: World) -> list[Body]:
    """What waits to be signed, and takes it out."""
    async with world.database.transaction() as tx:
        return [decision.body for decision in await PostgresDecisionStore().take(tx, 1000)]


async def told(world: World) -> list[LendingUsed]:
    return [body for body in await decided(world) if isinstance(body, LendingUsed)]


async def next_hour(world: World) -> list[LendingUsed]:
    world.clock.advance(HOUR_MS)
    await world.read_log()
    await world.places.meter()
    return await told(world)


async def limits(world: World) -> tuple[Machine, list[bytes]]:
    """A node, and limits under which three clients may read from it."""
    found: dict[bytes, list[bytes]] = {}
    while not any(len(of_node) == 3 for of_node in found.values()):
        (segment,) = await world.read(0, SEGMENT_BYTES)
        for place in segment.places:
            found.setdefault(place.node, []).append(place.limit)
    node, three = next((node, of_node) for node, of_node in found.items() if len(of_node) == 3)
    return world.machines[node], three


async def test_a_node_is_told_of_once_an_hour_with_what_lay_there_and_the_sum_of_its_orders(world: World) -> None:
    await world.store(SEGMENT_BYTES)
    await world.keep()
    size = Layout(SEGMENT_BYTES, 4).piece_bytes
    machine, (first, second, third) = await limits(world)
    await world.say(machine, world.served((first, 700), (second, 300)))
    await world.say(machine, world.served((first, 1000)), world.served((second, 300)))
    of_hour = await next_hour(world)
    assert len(of_hour) == len({one.node for one in of_hour}) == 8
    assert {one.used[STORED] for one in of_hour} == {size}
    (one,) = [one for one in of_hour if one.node == machine.id]
    assert (one.payee, one.used[EGRESS], one.orders) == (machine.account, 1300, 3)
    assert one.root == merkle_root([world.order(first, 700), world.order(second, 300), world.order(first, 1000)])
    assert sum(other.orders for other in of_hour) == 3
    await world.places.meter()
    assert not await told(world), "nothing twice in an hour"
    await world.say(machine, world.served((first, 1000)), world.served((third, 50)))
    (later,) = [one for one in await next_hour(world) if one.node == machine.id]
    assert (later.used[EGRESS], later.orders, later.window) == (50, 1, one.window + 1)
    assert later.begins == one.ends < later.ends
    assert later.root == merkle_root([world.order(third, 50)])


async def test_who_dies_while_he_tells_has_told_nothing_and_another_tells_all(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.store(SEGMENT_BYTES)
    await world.keep()
    machine, (first, *_) = await limits(world)
    await world.say(machine, world.served((first, 700)))

    async def dies(store: PostgresDecisionStore, tx: Transaction, decisions: Sequence[Decision]) -> None:
        await add(store, tx, decisions)
        if any(isinstance(decision.body, LendingUsed) for decision in decisions):
            raise RuntimeError("killed")

    add = PostgresDecisionStore.add
    with monkeypatch.context() as patch:
        patch.setattr(PostgresDecisionStore, "add", dies)
        with pytest.raises(RuntimeError, match="killed"):
            await next_hour(world)
    assert not await told(world)
    others = [world.process() for _ in range(3)]
    await asyncio.gather(*(other.rolling.roll() for other in others))
    of_hour = await told(world)
    assert len(of_hour) == len({one.node for one in of_hour}) == 8
    assert sum(one.used.get(EGRESS, 0) for one in of_hour) == 700


async def test_nobody_is_paid_for_more_than_is_told_of_his_nodes_whatever_is_stored_read_and_deleted(
    world: World,
) -> None:
    """The rest of seven days is paid at once where something is deleted before: that is told at once, too."""
    began_ms, bodies = world.clock.now_ms(), list[Body]()
    for hour in range(10):
        stream = hour.to_bytes(16)
        await world.store(SEGMENT_BYTES, stream=stream)
        await world.keep(stream)
        machine, (first, second, _) = await limits(world)
        await world.say(machine, world.served((first, 700 + hour), (second, 300)))
        if hour % 3 == 2:
            await world.drop((hour - 1).to_bytes(16), stream, purge=hour % 2 == 0)
        for _ in range(2):
            world.clock.advance(HOUR_MS // 2 + 1)
            await world.tell()
            await world.collect()
            await world.read_log()
            await world.places.meter()
            while await world.settle.roll_one():
                pass
        bodies += await decided(world)
    since_ms = began_ms + 2 * HOUR_MS
    assert compared(bodies, since_ms, world.clock.now_ms()) == PaidUse(10, [])
    lies = [body for body in bodies if not isinstance(body, LendingUsed) or EGRESS not in body.used]
    assert {one.meter for one in compared(lies, since_ms, world.clock.now_ms()).above} >= {EGRESS}


def compared(bodies: Sequence[Body], since_ms: int, until_ms: int) -> PaidUse:
    comparison = Comparison(NETWORK_KEY, since_ms, until_ms)
    for place, body in enumerate(bodies):
        comparison.take(filed(NETWORK_KEY, body, place))
    return comparison.found()
