"""Who deletes: what nobody needs any more goes from every node, and nothing else. On PostgreSQL."""

# ruff: noqa: D102 - the names of the steps say what they do

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import AsyncIterator

import pytest

from fallow.domain.errors import NotFound
from fallow.domain.identity import address_text
from fallow.verticals.storage.control.segments import FORGOTTEN_MS, LATE_MS
from fallow.verticals.storage.core.calls.objects import GetUnpurged, Unpurged
from fallow.verticals.storage.core.calls.segments import Place, Plan
from fallow.verticals.storage.core.orders import OrderLimit
from fallow.verticals.storage.core.reputation import ONLINE_GRACE_MS
from fallow.verticals.storage.core.tariff import DAY_MS
from tests.epoch_files import NETWORK_KEY
from tests.places_world import (
    BUCKET,
    BUYER,
    HOUR_MS,
    NAME,
    OTHER,
    STREAM,
    Killed,
    World,
    caught,
    stocked_world,
)


@pytest.fixture
async def world(postgres_dsn: str) -> AsyncIterator[World]:
    async with stocked_world(postgres_dsn) as world:
        yield world


async def test_what_is_dropped_is_trashed_by_every_node_that_has_it_and_by_nobody_else(world: World) -> None:
    kept, dropped = await world.store(), await world.store(stream=OTHER)
    await world.keep(OTHER)
    await world.keep()
    await world.drop(OTHER)
    await world.collect()
    for place in dropped.places[:8]:
        assert OrderLimit.open(place.limit, NETWORK_KEY).piece in world.machines[place.node].trashed
    live = {OrderLimit.open(place.limit, NETWORK_KEY).piece for place in kept.places[:8]}
    assert not any(live & {*machine.trashed, *machine.purged} for machine in world.machines.values())
    world.clock.advance(LATE_MS)
    await world.tell()
    await world.collect()
    assert (await world.count("garbage"), await world.count("dropped")) == (0, 0)
    assert not any(live & {*machine.trashed, *machine.purged} for machine in world.machines.values())


async def test_a_purge_is_one(world: World) -> None:
    plan = await world.store()
    await world.drop(STREAM, purge=True)
    await world.collect()
    assert all(len(world.machines[place.node].purged) == 1 for place in plan.places[:8])


async def unpurged(world: World) -> Unpurged:
    """What its owner is told of a bucket."""
    return await world.places.unpurged(GetUnpurged(account=address_text(BUYER), bucket=NAME))


async def test_of_what_is_purged_its_owner_hears_who_has_not_answered(world: World) -> None:
    plan = await world.store()
    await world.keep()
    await world.store(stream=OTHER)
    await world.keep(OTHER)
    away = world.machines[plan.places[0].node]
    away.away = True
    await world.drop(OTHER)
    await world.drop(STREAM, purge=True)
    assert (await unpurged(world)).pieces == 8, "before it is said to any node"
    await world.collect()
    due_ms = world.clock.now_ms() + LATE_MS
    assert await unpurged(world) == Unpurged(pieces=3, nodes=3, later=2, due_ms=due_ms), "two more may get a piece yet"
    world.clock.advance(LATE_MS)
    await world.tell()
    await world.collect()
    assert await unpurged(world) == Unpurged(pieces=1, nodes=1)
    away.away = False
    await world.tell()
    await world.collect()
    assert await unpurged(world) == Unpurged()
    assert OrderLimit.open(plan.places[0].limit, NETWORK_KEY).piece in away.purged
    with pytest.raises(NotFound):
        await world.places.unpurged(GetUnpurged(account=address_text(b"x" * 20), bucket=NAME))


async def test_what_nodes_before_were_to_put_into_the_trash_is_purged_too(world: World) -> None:
    plan = await world.store()
    await world.keep()
    before = next(machine for machine in world.machines.values() if machine.id not in {one.node for one in plan.places})
    async with world.database.transaction() as tx:  # a repair moved its piece, and it is away
        await tx.execute(
            "INSERT INTO storage.garbage (alias, segment, purge, due_ms)"
            " SELECT alias, $2, false, 0 FROM storage.node WHERE node = $1",
            before.id,
            plan.segment,
        )
    before.away = True
    await world.drop(STREAM, purge=True)
    await world.collect()
    before.away = False
    await world.tell()
    await world.collect()
    assert (len(before.purged), before.trashed) == (1, [])


async def test_nodes_that_are_away_are_asked_when_they_are_back(world: World) -> None:
    plan = await world.store()
    await world.keep()
    machine = world.machines[plan.places[0].node]
    machine.away = True
    await world.drop(STREAM)
    await world.collect()
    assert machine.trashed == []
    world.clock.advance(400 * DAY_MS)
    machine.away = False
    await world.tell()
    await world.collect()
    assert machine.trashed == [OrderLimit.open(plan.places[0].limit, NETWORK_KEY).piece]


async def test_nobody_waits_for_nodes_that_are_gone_for_good(world: World) -> None:
    trashed, purged = await world.store(), await world.store(stream=OTHER)
    for stream in (STREAM, OTHER):
        await world.keep(stream)
    both = {place.node for place in trashed.places[:8]} & {place.node for place in purged.places[:8]}
    left, lost, away = (world.machines[node] for node in sorted(both)[:3])
    left.away = lost.away = away.away = True
    async with world.database.transaction() as tx:  # as exits and audits write it
        await tx.execute("UPDATE storage.node SET exit = 'left' WHERE node = $1", left.id)
        await tx.execute("UPDATE storage.node SET standing = 'disqualified' WHERE node = $1", lost.id)
    await world.drop(STREAM)
    await world.drop(OTHER, purge=True)

    async def waiting_after(ms: int) -> set[tuple[bytes, bytes]]:
        world.clock.advance(ms)
        await world.tell()
        await world.collect()
        async with world.database.transaction() as tx:
            rows = await tx.fetch("SELECT node, segment FROM storage.garbage JOIN storage.node USING (alias)")
        return {(row["node"], row["segment"]) for row in rows}

    of_both = {(one.id, plan.segment) for one in (lost, away) for plan in (trashed, purged)}
    assert await waiting_after(ONLINE_GRACE_MS) == of_both
    assert await waiting_after(1) == of_both - {(lost.id, trashed.segment)}, "a buyer was told that it will be asked"


async def test_what_may_still_come_is_asked_for_when_it_cannot_any_more(world: World) -> None:
    plan = await world.begin()
    world.clock.advance(FORGOTTEN_MS - 1)
    await world.tell()
    await world.collect()
    assert (await world.count("begun"), await world.count("dropped")) == (1, 0)
    world.clock.advance(2)
    await world.tell()
    await world.collect()
    assert not any(machine.purged for machine in world.machines.values())
    with pytest.raises(NotFound):
        await world.end(plan)
    world.clock.advance(LATE_MS)
    await world.tell()
    await world.collect()
    assert sum(len(machine.purged) for machine in world.machines.values()) == 10
    assert not any(machine.trashed for machine in world.machines.values()), "nobody paid for it"


async def test_a_whole_segment_that_no_version_was_made_of_goes_and_a_kept_one_stays(world: World) -> None:
    await world.store()
    await world.keep()
    await world.store(stream=OTHER)
    world.clock.advance(FORGOTTEN_MS + 1)
    await world.tell()
    await world.collect()
    assert await world.count("segment") == 1
    assert await world.keep() == 1_000_000
    assert sum(len(machine.purged) for machine in world.machines.values()) == 10 + 2
    assert not any(machine.trashed for machine in world.machines.values())


async def test_parts_that_are_not_wanted_go(world: World) -> None:
    for part in (1, 2, 3):
        await world.store(100, stream=part.to_bytes(16))
        async with world.database.transaction() as tx:
            await world.places.segments.adopt(tx, BUCKET.id, part.to_bytes(16), STREAM, part)
    async with world.database.transaction() as tx:
        await world.places.segments.drop_parts(tx, BUCKET.id, STREAM, [2])
    assert await world.keep() == 100
    async with world.database.transaction() as tx:
        await world.places.segments.drop_parts(tx, BUCKET.id, STREAM, None)
    assert await world.keep() == 0


async def test_a_drop_that_was_not_committed_deletes_nothing(world: World) -> None:
    await world.store()
    await world.keep()
    with pytest.raises(Killed):  # noqa: PT012 - that is the end of a transaction
        async with world.database.transaction() as tx:
            await world.places.segments.drop(tx, BUCKET.id, [STREAM], purge=True)
            raise Killed
    await world.collect()
    assert not any(machine.purged for machine in world.machines.values())
    assert len((await world.read(0, 1))[0].places) == 6


async def test_an_answer_that_nobody_heard_is_asked_for_again(world: World) -> None:
    plan = await world.store()
    await world.drop(STREAM)
    holders = [world.machines[place.node] for place in plan.places[:8]]
    for machine in holders:
        machine.dies = True
    with pytest.raises(ExceptionGroup):
        await world.collect()
    assert await world.count("garbage") >= 8
    for machine in holders:
        machine.dies = False
    await world.collect(world.process())  # it has heard of no node
    await world.tell()
    await world.collect()
    assert not any(machine.has for machine in holders)
    assert any(len(machine.purged) == 2 for machine in holders)


async def test_a_row_about_a_live_piece_deletes_nothing(world: World) -> None:
    await world.store()
    async with world.database.transaction() as tx:  # what no code does
        await tx.execute(
            "INSERT INTO storage.garbage (alias, segment, purge, due_ms) SELECT n, id, true, 0"
            " FROM storage.segment, unnest(nodes) AS n"
        )
    await world.collect()
    assert not any(machine.purged for machine in world.machines.values())


class Course:
    """Does at random what clients, versions, nodes, processes and clocks can do."""

    def __init__(self, world: World, seed: int) -> None:
        self.world, self.rng = world, random.Random(seed)
        self.plans: list[tuple[bytes, Plan]] = []
        self.stored: dict[bytes, list[Place]] = {}
        self.kept: set[bytes] = set()
        self.latest_ms = world.clock.ms

    async def begin(self) -> None:
        stream = self.rng.randbytes(16)
        self.plans.append((stream, await self.world.begin(1000, stream)))

    async def end(self) -> None:
        stream, plan = self.rng.choice(self.plans)
        receipts = {
            number: receipt
            for number, receipt in self.world.receipts(plan).items()
            if self.holds(plan.places[number])  # it did not refuse the limit
        }
        if await caught(self.world.end(plan, receipts)) is None and stream not in self.stored:
            self.stored[stream] = [plan.places[number] for number in receipts]

    def holds(self, place: Place) -> bool:
        return OrderLimit.open(place.limit, NETWORK_KEY).piece in self.world.machines[place.node].has

    async def keep(self) -> None:
        stream, _ = self.rng.choice(self.plans)
        if await self.world.keep(stream):
            self.kept.add(stream)

    async def drop(self) -> None:
        stream, _ = self.rng.choice(self.plans)
        await self.world.drop(stream, purge=self.rng.random() < 0.5)
        self.kept.discard(stream)

    async def bring_late(self) -> None:
        place = self.rng.choice(self.rng.choice(self.plans)[1].places)
        self.world.machines[place.node].receipt(place.limit)

    async def leave_or_come(self) -> None:
        machine = self.rng.choice([*self.world.machines.values()])
        others = [one for one in self.world.machines.values() if one.away and one is not machine]
        machine.away = not machine.away and len(others) < 2

    async def die_or_live(self) -> None:
        machine = self.rng.choice([*self.world.machines.values()])
        machine.dies = not machine.dies

    async def collect(self) -> None:
        try:
            await self.world.collect()
        except ExceptionGroup:
            self.world.places = self.world.process()

    async def pass_time(self) -> None:
        """A clock that goes back does so by half an hour at most."""
        self.latest_ms = max(self.latest_ms, self.world.clock.ms)
        self.world.clock.ms = self.latest_ms + self.rng.choice([1, HOUR_MS, 30 * HOUR_MS, -HOUR_MS // 2])

    async def step(self) -> None:
        steps = [self.begin, self.leave_or_come, self.die_or_live, self.collect, self.collect, self.pass_time]
        if self.plans:
            steps += [self.begin, self.end, self.end, self.keep, self.keep, self.drop, self.bring_late]
        await self.rng.choice(steps)()
        await self.world.tell()

    def live(self) -> dict[bytes, set[bytes]]:
        """Pieces that must be there, by node."""
        pieces: defaultdict[bytes, set[bytes]] = defaultdict(set)
        for stream in self.kept:
            for place in self.stored[stream]:
                pieces[place.node].add(OrderLimit.open(place.limit, NETWORK_KEY).piece)
        return pieces

    async def heal(self) -> None:
        for machine in self.world.machines.values():
            machine.away = machine.dies = False
        for _ in range(3):
            self.world.clock.ms = self.latest_ms = self.latest_ms + FORGOTTEN_MS + LATE_MS + HOUR_MS
            await self.world.tell()
            await self.world.collect()


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens_live_pieces_stay_and_all_others_go(world: World, seed: int) -> None:
    world.clock.ms += 10**9
    await world.tell()
    course = Course(world, seed)
    for _ in range(80):
        await course.step()
        for node, pieces in course.live().items():
            assert pieces <= world.machines[node].has
    await course.heal()
    live = course.live()
    assert {machine.id: machine.has for machine in world.machines.values() if machine.has} == live
