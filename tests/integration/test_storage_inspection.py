"""Pieces that nodes have, and those that the network knows: what is missing is seen, and nothing live is deleted."""

# ruff: noqa: D102 - the names of the steps say what they do

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from fallow.domain.calls.base import Person
from fallow.domain.errors import Conflict, Unavailable
from fallow.verticals.storage.control.inspecting import YOUNG_MS, Inspector
from fallow.verticals.storage.control.inspection_rows import GONE_MS
from fallow.verticals.storage.control.limits import Secrets
from fallow.verticals.storage.control.questioning import WORDS_MAX
from fallow.verticals.storage.control.repair_rows import look_up, move, name
from fallow.verticals.storage.core.orders import OrderLimit
from fallow.verticals.storage.core.questions import PIECES_AT_ONCE, Page
from fallow.verticals.storage.core.upkeep import (
    GetInspection,
    Inspect,
    InspectedNode,
    InspectedObjects,
    Inspection,
    OtherBytes,
)
from tests.epoch_files import NETWORK_KEY
from tests.places_world import BUCKET, HOUR_MS, STREAM, Machine, World, machines, places_world

ASK = Inspect(account="")


class Quick:
    """The world's time, which nobody waits for. `between` is done in the pause of that number."""

    def __init__(self, world: World) -> None:
        self.now_ms = world.clock.now_ms
        self.monotonic_ms = world.clock.now_ms
        self.pauses = 0
        self.between: dict[int, Callable[[], Awaitable[None]]] = {}

    async def sleep(self, _seconds: float) -> None:
        self.pauses += 1
        if self.pauses in self.between:
            await self.between[self.pauses]()
        await asyncio.sleep(0)


def inspector(world: World, clock: Quick | None = None) -> Inspector:
    rng = random.Random(1)
    return Inspector(
        clock=clock or Quick(world),
        database=world.database,
        nodes=world.places.nodes,
        secrets=Secrets(b"secret of thirty-two bytes here."),
        ask=world._ask,
        log=world.registry,
        random_bytes=rng.randbytes,
    )


@pytest.fixture
async def world(postgres_dsn: str) -> AsyncIterator[World]:
    async with places_world(postgres_dsn) as world:
        world.clock.ms += 10 * YOUNG_MS
        await world.subscribe()
        await world.enrol(*machines(12))
        yield world


async def inspected(world: World, *, repair: bool = False, clock: Quick | None = None) -> Inspection:
    await world.tell()
    inspecting = inspector(world, clock)
    await inspecting.rows.ask(Inspect(account="", repair=repair))
    assert await inspecting.inspect()
    found = await inspecting.rows.get(GetInspection(account=""))
    assert found.state == "done"
    return found


def of(found: Inspection, machine: Machine) -> InspectedNode:
    (one,) = [one for one in found.nodes if one.node == machine.id]
    return one


async def test_who_asked_for_a_check_is_in_the_log_of_actions_once(world: World) -> None:
    by = Person(account="0x" + "0a" * 20, key_id="op2")
    rows = inspector(world).rows
    for _ in range(2):
        await rows.ask(Inspect(account=by.account, by=by, repair=True))
    async with world.database.transaction() as tx:
        (row,) = await world.registry.actions(tx, "", 10)
    assert (row.what, row.about, row.key_id, row.at) == ("storage.check", "repair", "op2", world.clock.ms)


async def test_all_is_well_where_nodes_have_what_they_should(world: World) -> None:
    for number in range(3):
        await world.store(1000, stream=number.to_bytes(16))
        await world.keep(number.to_bytes(16))
    world.clock.ms += YOUNG_MS + 1
    found = await inspected(world)
    assert sum(node.named for node in found.nodes) == sum(node.here for node in found.nodes) == 24
    assert not any(node.missing or node.strays or node.spare or node.trouble for node in found.nodes)


async def test_a_piece_that_is_not_there_is_reported_with_its_segment(world: World) -> None:
    plan = await world.store()
    loser, away = (world.machines[place.node] for place in plan.places[:2])
    loser.has.clear()
    away.away = True
    world.clock.ms += HOUR_MS
    found = await inspected(world)
    assert (of(found, loser).missing, of(found, loser).segments) == (1, [plan.segment])
    assert (of(found, away).named, of(found, away).missing) == (1, 0)
    assert of(found, away).trouble == "It was not there."


async def test_what_a_node_says_in_place_of_an_answer_is_shown_in_a_few_words(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = next(iter(world.machines.values()))

    async def asked(_question: bytes) -> bytes:
        raise Unavailable("disk", "\x1b[2J" + "no " * 300_000)

    monkeypatch.setattr(machine, "asked", asked)
    trouble = of(await inspected(world), machine).trouble
    assert trouble.startswith("[2Jno no")
    assert len(trouble) == WORDS_MAX, "a page of nodes goes over the bus"


async def put(
    world: World, table: str, stream: bytes, size: int, *, bucket: int = BUCKET.id, inline: bytes | None = None
) -> None:
    async with world.database.transaction() as tx:
        await tx.execute(
            "INSERT INTO storage.bucket (id, name, account, made_ms, profile, countries, versioning, lock)"
            " OVERRIDING SYSTEM VALUE VALUES ($1, 'b', $2, 0, '', '{}', 'off', false) ON CONFLICT DO NOTHING",
            BUCKET.id,
            b"a" * 20,
        )
        await tx.execute(
            f"INSERT INTO storage.{table} (bucket_id, name, version, stream, size, inline, until_ms, retention,"  # noqa: S608 - ours
            " is_null, marker, hold, etag, key, head, tags)"
            " VALUES ($1, $2, $2, $2, $3, $4, 0, 0, false, false, false, '', '', '', '')",
            bucket,
            stream,
            size,
            inline,
        )


async def test_objects_that_name_what_no_segment_has_and_segments_that_no_object_names_are_found(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fallow.verticals.storage.control.object_bytes.ROWS_AT_ONCE", 2)
    whole, older, short, gap, lost, moved, open_, nobodys, fresh = (bytes([one]) * 16 for one in range(1, 10))
    plans = {}
    for stream in (whole, older, short, moved, open_, nobodys, fresh):
        plans[stream] = await world.store(1000, stream)
    await world.store(1000, whole, part=3)
    await world.store(1000, gap, index=1)
    for stream in (whole, older, short, gap, moved, open_, nobodys):
        await world.keep(stream)
    await put(world, "object", whole, 2000)
    await put(world, "version", older, 1000)
    await put(world, "object", short, 1001)
    await put(world, "version", gap, 1000)
    await put(world, "object", lost, 5)
    await put(world, "object", b"i" * 16, 5, inline=b"bytes")
    await put(world, "object", moved, 1000, bucket=BUCKET.id + 1)
    async with world.database.transaction() as tx:
        await tx.execute(
            "INSERT INTO storage.upload (stream, bucket_id, name, made_ms, head, tags, retention, until_ms, hold)"
            " VALUES ($1, $2, 'n', 0, '', '', 0, 0, false)",
            open_,
            BUCKET.id,
        )
    found = (await inspected(world)).objects
    assert found is not None
    assert (found.on_nodes, found.other, found.forgotten) == (6, 4, 2)
    assert found.versions == [
        OtherBytes(bucket="b", version=short, stream=short, size=1001, stored=1000),
        OtherBytes(bucket="b", version=lost, stream=lost, size=5, stored=0),
        OtherBytes(bucket="", version=moved, stream=moved, size=1000, stored=0),
        OtherBytes(bucket="b", version=gap, stream=gap, size=1000, stored=0),
    ]
    assert found.segments == sorted(plans[stream].segment for stream in (moved, nobodys))


async def test_with_repair_what_is_named_comes_back_out_of_the_trash(world: World) -> None:
    plan = await world.store()
    machine = world.machines[plan.places[0].node]
    machine.trashed, machine.has = [*machine.has], set()
    assert of(await inspected(world), machine).missing == 1
    assert of(await inspected(world, repair=True), machine).missing == 0
    assert machine.has == set(machine.trashed)


async def test_what_no_segment_knows_is_shown_and_with_repair_put_into_the_trash(world: World) -> None:
    await world.store()
    await world.keep()
    machine = world.machines[next(iter(world.machines))]
    stray, young = b"s" * 32, b"y" * 32
    machine.has |= {stray, young}
    world.clock.ms += YOUNG_MS + 1
    machine.stored_ms[young] = world.clock.ms
    before = {one.id: set(one.has) for one in world.machines.values()}
    found = of(await inspected(world), machine)
    assert (found.strays, found.trashed, found.pieces) == (1, 0, [stray])
    assert {one.id: one.has for one in world.machines.values()} == before
    found = of(await inspected(world, repair=True), machine)
    assert (found.strays, found.trashed) == (1, 1)
    assert machine.trashed == [stray]
    assert of(await inspected(world, repair=True), machine).strays == 0


async def test_a_piece_of_a_live_segment_on_a_node_that_it_does_not_name_is_spare_and_stays(world: World) -> None:
    plan = await world.store()
    await world.keep()
    holders = {place.node for place in plan.places}
    other = next(machine for machine in world.machines.values() if machine.id not in holders)
    piece = Secrets(b"secret of thirty-two bytes here.").piece(plan.segment, other.id)
    other.has.add(piece)
    world.clock.ms += YOUNG_MS + 1
    found = of(await inspected(world, repair=True), other)
    assert (found.spare, found.strays) == (1, 0)
    assert piece in other.has


class Move:
    """A repair: nodes are named, get their piece, and are counted on from then on."""

    def __init__(self, world: World, segment: bytes, to: Machine) -> None:
        self.world, self.segment, self.to = world, segment, to
        self.piece = Secrets(b"secret of thirty-two bytes here.").piece(segment, to.id)
        self.moved = False

    async def bring(self) -> None:
        async with self.world.database.transaction() as tx:
            (row,) = await tx.fetch("SELECT alias FROM storage.node WHERE node = $1", self.to.id)
            damaged = await look_up(tx, self.segment)
            assert damaged is not None
            self.alias, self.damaged = row["alias"], damaged
            self.named = await name(tx, damaged, [self.alias], self.world.clock.ms)
        self.to.has.add(self.piece)

    async def move(self) -> None:
        async with self.world.database.transaction() as tx:
            await move(tx, self.damaged, {0: self.alias}, [self.named], self.world.clock.ms)
        self.moved = True


async def test_a_piece_that_repair_brought_is_no_stray_whenever_it_is_counted_on(world: World) -> None:
    number, moved = 0, True
    while moved:
        number += 1
        plan = await world.store(stream=number.to_bytes(16))
        await world.keep(number.to_bytes(16))
        holders = {place.node for place in plan.places[: plan.pieces]}
        repair = Move(world, plan.segment, next(one for one in world.machines.values() if one.id not in holders))
        await repair.bring()
        clock = Quick(world)
        clock.between[number] = repair.move
        found = await inspected(world, repair=True, clock=clock)
        assert repair.piece in repair.to.has
        assert not any(node.strays for node in found.nodes)
        moved = repair.moved
    assert number > 5


async def test_a_node_that_makes_up_pieces_without_end_does_not_hold_up_a_check(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fallow.verticals.storage.control.inspecting.STRAYS_MAX", 2500)
    liar, *others = world.machines.values()

    def page(asked: Page) -> list[bytes]:
        first = int.from_bytes(asked.after) + 1
        return [number.to_bytes(32) for number in range(first, first + PIECES_AT_ONCE)]

    monkeypatch.setattr(liar, "page", page)
    found = await inspected(world, repair=True)
    assert of(found, liar).here == 3000
    assert of(found, liar).strays == 0
    assert "many pieces" in of(found, liar).trouble
    assert not any(of(found, other).trouble for other in others)


async def test_one_check_is_done_at_a_time_and_by_another_where_its_process_is_gone(world: World) -> None:
    inspecting = inspector(world)
    assert not await inspecting.inspect()
    await inspecting.rows.ask(ASK)
    await inspecting.rows.ask(ASK)
    with pytest.raises(Conflict):
        await inspecting.rows.ask(Inspect(account="", repair=True))
    assert await inspecting.rows.take(b"a" * 16) is False
    assert await inspecting.rows.take(b"b" * 16) is None
    world.clock.ms += GONE_MS + 1
    assert await inspecting.rows.take(b"b" * 16) is False
    assert not await inspecting.rows.goes_on(b"a" * 16, 1)
    await inspecting.rows.end(b"a" * 16, 1, [], InspectedObjects())
    assert await inspecting.rows.goes_on(b"b" * 16, 1)


async def test_nodes_that_take_their_time_make_nobody_else_begin_the_check_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fallow.verticals.storage.control.inspecting.NODES_AT_ONCE", 1)
    await world.store()
    inspecting, another, asked = inspector(world), inspector(world), 0

    async def ask(node: bytes, question: bytes, *, timeout_s: float = 10.0) -> bytes:
        nonlocal asked
        asked += 1
        world.clock.ms += GONE_MS // 4
        assert await another.rows.take(b"b" * 16) is None
        return await world._ask(node, question, timeout_s=timeout_s)

    monkeypatch.setattr(inspecting, "_ask", ask)
    await inspecting.rows.ask(ASK)
    assert await inspecting.inspect()
    assert asked > 8
    assert (await inspecting.rows.get(GetInspection(account=""))).state == "done"


async def test_who_hears_that_another_does_the_check_by_now_ends_his(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.store()
    inspecting = inspector(world)

    async def ask(node: bytes, question: bytes, *, timeout_s: float = 10.0) -> bytes:
        world.clock.ms += GONE_MS + 1
        await inspecting.rows.take(b"b" * 16)
        return await world._ask(node, question, timeout_s=timeout_s)

    monkeypatch.setattr(inspecting, "_ask", ask)
    await inspecting.rows.ask(ASK)
    assert await inspecting.inspect()
    assert (await inspecting.rows.get(GetInspection(account=""))).state == "running"


async def test_a_piece_that_is_just_being_stored_is_no_stray_however_old_its_node_takes_it_for(world: World) -> None:
    for machine in world.machines.values():
        machine.skew_ms = -100 * YOUNG_MS
    plan = await world.begin()
    receipts = world.receipts(plan)
    found = await inspected(world, repair=True)
    assert sum(node.here for node in found.nodes) == 8
    assert not any(node.strays or node.spare for node in found.nodes)
    await world.end(plan, receipts)
    assert not any(machine.trashed for machine in world.machines.values())


class Course:
    """Clients that store, keep, drop and bring late, garbage that is collected, and clocks of nodes that are wrong."""

    def __init__(self, world: World, seed: int) -> None:
        self.world, self.rng = world, random.Random(seed)
        self.live: dict[bytes, set[tuple[bytes, bytes]]] = {}
        self.checked = asyncio.Condition()
        for machine in world.machines.values():
            machine.skew_ms = self.rng.choice([0, -30 * HOUR_MS, -300 * HOUR_MS, 30 * HOUR_MS])

    async def client(self) -> None:
        for _ in range(12):
            stream = self.rng.randbytes(16)
            await self.pause()
            await self.world.tell()
            plan = await self.world.begin(1000, stream)
            receipts = {}
            for place in plan.places:
                await self.pause()
                receipt = self.world.machines[place.node].receipt(place.limit)
                if place.number < plan.pieces:
                    receipts[place.number] = receipt
            if self.rng.random() < 0.2:
                continue  # never ended
            if self.rng.random() < 0.4:
                await self.whole_check()
            await self.pause()
            await self.world.end(plan, receipts)
            async with self.world.database.transaction() as tx:
                assert await self.world.places.segments.stored_bytes(tx, 7, stream, None) == 1000
            self.live[stream] = {
                (place.node, OrderLimit.open(place.limit, NETWORK_KEY).piece) for place in plan.places[: plan.pieces]
            }
            if self.rng.random() < 0.3:
                del self.live[stream]
                await self.world.drop(stream)

    async def collector(self) -> None:
        for _ in range(8):
            await self.pause()
            await self.world.collect()

    async def whole_check(self) -> None:
        """Wait until a check that has not begun yet is over."""
        async with self.checked:
            await self.checked.wait()
            await self.checked.wait()

    async def pause(self) -> None:
        for _ in range(self.rng.randrange(6)):
            await asyncio.sleep(0)
        self.world.clock.ms += self.rng.randrange(100)

    def lost(self) -> list[tuple[bytes, bytes]]:
        return [
            (node, piece)
            for pieces in self.live.values()
            for node, piece in pieces
            if piece not in self.world.machines[node].has
        ]


@pytest.mark.parametrize("seed", range(5))
async def test_no_check_deletes_a_live_piece_whatever_goes_on_beside_it(world: World, seed: int) -> None:
    course = Course(world, seed)
    stray = [b"%032d" % number for number in range(12)]
    for piece, machine in zip(stray, world.machines.values(), strict=True):
        machine.has.add(piece)
    checks = 0
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(course.client()) for _ in range(3)]
        tasks.append(group.create_task(course.collector()))
        while not all(task.done() for task in tasks):
            await inspected(world, repair=True)
            checks += 1
            async with course.checked:
                course.checked.notify_all()
            assert not course.lost()
    await inspected(world, repair=True)
    assert not course.lost()
    assert checks > 1
    assert course.live
    assert not any(piece in machine.has for piece in stray for machine in world.machines.values())


async def test_strays_of_many_pages_are_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fallow.verticals.storage.control.inspecting.PIECES_MAX", 12_000)
    await world.store(stream=STREAM)
    await world.keep()
    machine = world.machines[next(iter(world.machines))]
    machine.has |= {b"%032d" % number for number in range(2500)}
    world.clock.ms += YOUNG_MS + 1
    found = of(await inspected(world, repair=True), machine)
    assert found.strays == found.trashed == 2500
    assert len(found.pieces) == 20
