"""Segments that were stored, or repaired, with fewer pieces than they are coded into get the rest in good time."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from fallow.adapters.postgres.database import open_database
from fallow.adapters.postgres.migrations import load, migrate
from fallow.ports.tasks import background
from fallow.verticals.storage.control.nodes import LOST_MS
from fallow.verticals.storage.control.queues import RETRY_MS, SHORT, note_if_short
from fallow.verticals.storage.control.segments import LATE_MS
from fallow.verticals.storage.core.profiles import LAB, SMALL, WIDE
from fallow.verticals.storage.core.tariff import VERTICAL as NAME
from fallow.verticals.storage.plugin import VERTICAL
from tests.network import until_async
from tests.places_world import Machine, machines
from tests.repair_world import RepairWorld, payload_of, pieces_of, repair_world

PAYLOAD = payload_of(600_000)
OTHER = b"o" * 16


@pytest.fixture
async def world(postgres_dsn: str) -> AsyncIterator[RepairWorld]:
    """A network with eight machines: one for each piece."""
    async with repair_world(postgres_dsn, lambda: list(machines(8))) as world:
        yield world


async def join(world: RepairWorld, *numbers: int) -> list[Machine]:
    """Further machines come."""
    joined = [Machine(number) for number in numbers]
    await world.enrol(*joined)
    return joined


def moved(world: RepairWorld) -> int:
    """Bytes that nodes gave."""
    return sum(kept.moved["get"] for kept in world.kept.values())


async def test_with_n_less_k_nodes_dead_what_began_short_is_read_from_the_rest(world: RepairWorld) -> None:
    plan = await world.put(PAYLOAD, without=[5])
    await join(world, *range(20, 30))
    assert not await world.repairs.fill_next(), "it may be deleted in a moment"
    await world.pass_time(RETRY_MS)

    async def is_filled() -> bool:
        return await world.count("short") == 0

    async with background(world.repairs.repair()):
        await until_async(is_filled, "it is filled up")
    assert await world.pieces(plan.segment) == pieces_of(plan, PAYLOAD)
    world.leave(*[one for one in await world.holders(plan.segment) if one][: plan.pieces - plan.needed])
    assert sum(piece is not None for piece in await world.pieces(plan.segment)) == plan.needed
    await world.pass_time()
    await world.mend()
    assert await world.pieces(plan.segment) == pieces_of(plan, PAYLOAD), "those that are left give all others"


async def test_nothing_is_filled_up_while_a_segment_waits_for_repair(world: RepairWorld) -> None:
    short, full = await world.put(PAYLOAD, without=[0]), list(world.machines.values())
    others = await join(world, *range(20, 28))
    for one in full:
        one.room = 0
    await world.tell()
    plan = await world.put(PAYLOAD, OTHER)
    for one in full:
        one.room = 10**12
    world.leave(*others[:2])
    await world.pass_time()
    assert await world.find() == 1
    assert not await world.repairs.fill_next()
    assert await world.repairs.repair_next()
    assert await world.pieces(plan.segment) == pieces_of(plan, PAYLOAD)
    assert (await world.pieces(short.segment))[0] is None
    assert await world.repairs.fill_next()
    assert await world.pieces(short.segment) == pieces_of(short, PAYLOAD)


async def test_where_no_machine_is_left_for_it_it_is_tried_now_and_then_and_nothing_is_read(world: RepairWorld) -> None:
    plan = await world.put(PAYLOAD, without=[3])
    for pause in (1, 1, 2):
        await world.pass_time(pause * RETRY_MS - 1)
        assert not await world.repairs.fill_next()
        await world.pass_time(1)
        assert await world.repairs.fill_next(), "the machine that was too slow is still to delete what may come"
    assert moved(world) == 0
    await world.pass_time(LATE_MS)
    await world.collect()
    assert await world.repairs.fill_next()
    assert await world.pieces(plan.segment) == pieces_of(plan, PAYLOAD)
    assert await world.count("short") == 0


async def test_what_is_deleted_before_costs_nothing(world: RepairWorld) -> None:
    await world.put(PAYLOAD, without=[3])
    await join(world, 20)
    await world.drop(b"s" * 16)
    await world.pass_time(RETRY_MS)
    assert await world.repairs.fill_next()
    assert (moved(world), await world.count("short"), await world.count("segment")) == (0, 0, 0)


async def test_what_was_repaired_short_is_filled_up_when_machines_join_and_what_fell_since_is_not(
    world: RepairWorld,
) -> None:
    await join(world, 20)
    plan = await world.put(PAYLOAD)
    world.leave(*[one for one in await world.holders(plan.segment) if one][:2])
    await world.pass_time()
    await world.collect()
    await world.mend()
    assert (await world.count("repair"), await world.count("short")) == (0, 1), "seven machines are left"
    (new,) = await join(world, 21)
    await world.pass_time(RETRY_MS)
    assert await world.repairs.fill_next()
    assert await world.pieces(plan.segment) == pieces_of(plan, PAYLOAD)
    await join(world, 22)
    world.leave(new)
    await world.pass_time(LOST_MS)
    await world.mend()
    assert not await world.repairs.fill_next()
    assert (await world.pieces(plan.segment)).count(None) == 1


async def test_what_is_likeliest_to_be_lost_is_filled_up_first(world: RepairWorld) -> None:
    stored = [(LAB, 8), (WIDE, 79), (LAB, 7), (WIDE, 55), (SMALL, 19), (SMALL, 20)]
    async with world.database.transaction() as tx:
        for profile, pieces in stored:
            await note_if_short(tx, pieces.to_bytes(16), profile, pieces, world.clock.now_ms())
        later = world.clock.now_ms() + RETRY_MS
        taken = [await SHORT.take(tx, later) for _ in range(5)]
    assert [segment and int.from_bytes(segment) for segment in taken] == [19, 55, 7, 79, None]


async def test_what_began_short_under_an_earlier_release_is_filled_up_too(postgres_dsn: str) -> None:
    assert VERTICAL.migrations is not None
    steps = load(NAME, VERTICAL.migrations)
    before = next(number for number, step in enumerate(steps) if step.name.endswith("_short.sql"))
    async with open_database(postgres_dsn) as database:
        await migrate(database, steps[:before])
        async with database.transaction() as tx:
            await tx.execute(
                "INSERT INTO storage.segment"
                " (id, bucket, stream, part, number, payload, key, profile, nodes, made_ms, kept)"
                " SELECT int8send(0) || int8send(n), 1, int8send(n) || int8send(n), 0, 0, 1, '', 'lab', nodes, 1, true"
                " FROM (VALUES (1, '{1,2,3,4,5,6,7,8}'::integer[]), (2, '{1,2,3,4,5,6,0,8}')) AS s (n, nodes)"
            )
        await migrate(database, steps)
        async with database.transaction() as tx:
            rows = await tx.fetch("SELECT segment FROM storage.short")
    assert [int.from_bytes(row["segment"]) for row in rows] == [2]
