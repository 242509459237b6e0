"""The database goes back to a time before repairs moved pieces: what they moved is found on its new nodes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from fallow.verticals.storage.control import adopting
from fallow.verticals.storage.control.nodes import ONLINE_MS
from fallow.verticals.storage.control.recovering import STRANGE_MS
from fallow.verticals.storage.control.segments import LATE_MS
from fallow.verticals.storage.core.calls.segments import Plan
from fallow.verticals.storage.core.orders import PieceClaim
from tests.engines import Engines
from tests.epoch_files import NET
from tests.integration.test_storage_restored import places_audited
from tests.memory_nodes import Wants
from tests.places_world import STREAM, Machine, machines, signing
from tests.repair_world import RepairWorld, payload_of, pieces_of, repair_world
from tests.rolled import Rolled

PAYLOAD = payload_of(200_000)


@pytest.fixture
async def world(postgres_dsn: str) -> AsyncIterator[RepairWorld]:
    """A network with so few machines that repairs bring pieces to those, too, that an upload named and did not need."""
    async with repair_world(postgres_dsn, lambda: list(machines(13))) as world:
        yield world


class Moved:
    """A segment that is stored, then known by a backup; five of its eight nodes leave, two and three at a time."""

    def __init__(self, world: RepairWorld, engines: Engines) -> None:
        self.world = world
        self.rolled = Rolled(world, engines)
        self.plan: Plan
        self.whole: list[bytes] = []

    async def since(self) -> None:
        """Repair moves what leaves."""
        self.plan = await self.world.put(PAYLOAD)
        self.whole = pieces_of(self.plan, PAYLOAD)
        await self.rolled.keep()
        for count in (2, 3):
            holders = [one for one in await self.holders() if one.id in self.first]
            self.world.leave(*holders[:count])
            await self.world.pass_time()
            await self.world.mend()
            await self.world.collect()
        assert await self.pieces() == self.whole

    @property
    def first(self) -> set[bytes]:
        """Who got a piece of it first."""
        return {place.node for place in self.plan.places[: self.plan.pieces]}

    async def holders(self) -> list[Machine]:
        """Who has a piece of it now."""
        return [one for one in await self.world.holders(self.plan.segment) if one]

    async def pieces(self) -> list[bytes | None]:
        """What can be read of it."""
        return await self.world.pieces(self.plan.segment)

    async def back(self) -> None:
        """The database is put back; nodes take back what they are asked for, and who is lost is found to be so."""
        await self.rolled.back()
        self.world.restart()
        while await self.world.places.recovery.take_back():
            pass
        await self.world.collect()
        await self.world.find()


@pytest.fixture
async def moved(world: RepairWorld, engines: Engines) -> Moved:
    """See `Moved`."""
    made = Moved(world, engines)
    await made.since()
    return made


async def test_what_repairs_moved_since_is_found_where_too_few_others_are_left(
    world: RepairWorld, moved: Moved
) -> None:
    await moved.back()
    assert sum(piece is not None for piece in await moved.pieces()) == 3, "fewer than it takes"
    await world.mend()
    assert sum(piece is not None for piece in await moved.pieces()) == 3
    assert await world.adopting.adopt() == 5
    assert await moved.pieces() == moved.whole
    await world.mend()
    assert await world.count("repair") == 0
    live = {one.id for one in await moved.holders()}
    assert len(live & moved.first) == 3
    assert len(await places_audited(world)) == 8, "they are audited as all others"


async def test_who_reads_does_not_wait_until_the_nodes_before_count_as_lost(world: RepairWorld, moved: Moved) -> None:
    await moved.rolled.back()
    world.restart()
    await world.collect()
    async with world.database.transaction() as tx:
        (row,) = await tx.fetch("SELECT nodes FROM storage.segment")
        before = [world.machines[one.node] for one in (await world.places.nodes.of(tx, row["nodes"])).values()]
    there = {one.node for one in world.places.nodes.there()}
    assert {one.id for one in before} == moved.first <= there, "whoever it does not hear may come any moment"
    fourth = next(one for one in before if one.away)
    world.come_back(fourth)
    await world.tell()
    assert await world.adopting.adopt() == 0, "what can be read waits for repair to ask for it"
    assert await world.count("repair") == 0
    world.leave(fourth)
    await world.pass_time(ONLINE_MS + 1)
    assert await world.adopting.adopt() == 5
    assert sum(piece is not None for piece in await moved.pieces()) == 8
    assert await world.find() == 0


async def test_it_is_found_and_audited_where_the_nodes_before_are_there_and_have_nothing(
    world: RepairWorld, moved: Moved
) -> None:
    before = [one for one in world.machines.values() if one.id in moved.first and one.away]
    for one in before:
        world.kept[one.id].pieces.clear()
        world.bins[one.id].clear()
    world.come_back(*before)
    await moved.back()
    assert sum(piece is not None for piece in await moved.pieces()) == 3
    assert await places_audited(world) == set(), "who was purged of a piece is not asked for it"
    assert await world.adopting.adopt() == 5
    assert await moved.pieces() == moved.whole
    assert await places_audited(world) == {one.id for one in await moved.holders()}


async def test_it_is_found_in_the_trash_too_where_the_object_was_deleted_since(
    world: RepairWorld, moved: Moved
) -> None:
    await world.drop(STREAM)
    await world.collect()
    assert not any(kept.pieces for kept in world.kept.values() if not world.machines[kept.id].away)
    await moved.back()
    assert await world.adopting.adopt() == 5
    assert await moved.pieces() == moved.whole


async def test_what_was_to_be_purged_at_that_time_and_was_brought_again_since_is_not(
    world: RepairWorld, moved: Moved
) -> None:
    brought = {one.id for one in await moved.holders()} - moved.first
    again = brought & {place.node for place in moved.plan.places}
    assert len(again) == 2, "they were named for a piece, and not needed"
    for machine in world.machines.values():
        machine.purged.clear()
    await moved.back()
    assert not any(machine.purged for machine in world.machines.values())
    assert {node for node in again if world.bins[node]} == again
    await world.drop(STREAM, purge=True)
    await world.collect()
    assert any(machine.purged for machine in world.machines.values()), "what is purged from then on is"


async def test_payment_follows_and_what_the_old_nodes_have_is_garbage(world: RepairWorld, moved: Moved) -> None:
    await moved.back()
    await world.adopting.adopt()
    async with world.database.transaction() as tx:
        rows = await tx.fetch("SELECT unnest(nodes) AS alias, bytes FROM storage.change")
        (segment,) = await tx.fetch("SELECT nodes FROM storage.segment")
        garbage = await tx.fetch("SELECT alias FROM storage.garbage WHERE segment = $1", moved.plan.segment)
    sums: dict[int, int] = {}
    for row in rows:
        sums[row["alias"]] = sums.get(row["alias"], 0) + row["bytes"]
    assert {alias for alias, size in sums.items() if size > 0} == set(segment["nodes"])
    assert not any(size for alias, size in sums.items() if alias not in segment["nodes"])
    assert not {row["alias"] for row in garbage} & set(segment["nodes"])
    assert len(garbage) == 5


async def test_a_claim_of_another_number_or_signer_makes_nobody_a_holder(world: RepairWorld, moved: Moved) -> None:
    new = [one for one in await moved.holders() if one.id not in moved.first]
    for one, signer in zip(new, [world.client, world.secrets.repairer(), world.secrets.repairer(79)], strict=False):
        piece = world.secrets.piece(moved.plan.segment, one.id)
        claim = PieceClaim(net=NET, piece=piece, length=len(moved.whole[0]), hash=bytes(32))
        world.kept[one.id].claims[piece] = claim.seal(signing(signer))
    await moved.back()
    assert await world.adopting.adopt() == 2
    assert sum(piece is not None for piece in await moved.pieces()) == 5
    assert {one.id for one in await moved.holders()}.isdisjoint({one.id for one in new[:3]})
    await world.pass_time(LATE_MS + 1)
    await world.collect()
    assert await world.adopting.adopt() == 0
    await world.pass_time(LATE_MS + 1)
    await world.collect()
    await world.mend()
    assert await moved.pieces() == moved.whole, "what is enough is repaired"


async def test_where_nothing_was_restored_or_long_ago_nobody_is_asked(world: RepairWorld, moved: Moved) -> None:
    world.leave(*(await moved.holders())[:3])
    await world.pass_time()
    assert await world.find() == 1
    assert await world.adopting.adopt() == 0
    await moved.back()
    world.clock.advance(STRANGE_MS)
    await world.tell()
    assert await world.adopting.adopt() == 0


async def test_two_processes_that_find_the_same_take_it_in_once(world: RepairWorld, moved: Moved) -> None:
    await moved.back()
    assert sum(await asyncio.gather(world.adopting.adopt(), world.adopting.adopt())) == 5
    assert await moved.pieces() == moved.whole
    nodes = [one.id for one in await moved.holders()]
    assert len(set(nodes)) == len(nodes) == 8


async def test_what_began_short_and_was_filled_up_since_is_found_where_nobody_else_takes_the_rest(
    world: RepairWorld, engines: Engines
) -> None:
    plan, rolled = await world.put(PAYLOAD, without=[2]), Rolled(world, engines)
    await rolled.keep()
    await world.pass_time(LATE_MS)
    await world.collect()
    assert await world.repairs.fill_next()
    assert await world.pieces(plan.segment) == pieces_of(plan, PAYLOAD)
    await rolled.back()
    world.restart()
    await world.collect()
    assert await world.adopting.adopt() == 0, "whoever was not tried may be filled up"
    holders = await world.holders(plan.segment)
    for one in world.machines.values():
        world.kept[one.id].wants = Wants(refuses=one not in holders)
    assert await world.repairs.fill_next()
    assert (await world.pieces(plan.segment))[2] is None
    await world.pass_time(LATE_MS)
    await world.collect()  # whoever has it may have been drawn just now, and refused: it is in his trash then
    assert await world.adopting.adopt() == 1
    assert await world.pieces(plan.segment) == pieces_of(plan, PAYLOAD)


async def test_a_page_of_segments_looks_up_what_waits_and_does_not_read_all_that_does(world: RepairWorld) -> None:
    async with world.database.transaction() as tx:
        await tx.execute(
            "INSERT INTO storage.segment"
            " (id, bucket, stream, part, number, payload, key, profile, nodes, made_ms, kept)"
            " SELECT int8send(n) || int8send(n), 1, int8send(n) || int8send(n), 0, 0, 1, '', 'lab', '{1,2}', 1, true"
            " FROM generate_series(1::bigint, 20000) AS n"
        )
        await tx.execute("INSERT INTO storage.short (segment, days, due_ms) SELECT id, 0, 0 FROM storage.segment")
        await tx.execute("ANALYZE storage.segment, storage.short")
        plan = await tx.fetch(f"EXPLAIN {adopting._PAGE}", b"", 1000)
    assert not [line["QUERY PLAN"] for line in plan if "Seq Scan on short" in line["QUERY PLAN"]]
