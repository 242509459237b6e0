"""Pieces that are lost come back on other nodes: whatever stops in the middle, nothing is worse than before."""

# ruff: noqa: D102 - the names of the steps say what they do

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from blake3 import blake3

from fallow.domain.errors import Conflict, Unavailable
from fallow.verticals.storage.client.waiting import Watch
from fallow.verticals.storage.control import repair_rows, scanning
from fallow.verticals.storage.control.limits import REPAIRS
from fallow.verticals.storage.control.mending import repairs
from fallow.verticals.storage.control.nodes import LOST_MS, Lender
from fallow.verticals.storage.control.questioning import Contained, Job
from fallow.verticals.storage.control.queues import REPAIR, TAKEN_MS
from fallow.verticals.storage.control.repair_rows import Damaged
from fallow.verticals.storage.control.repairing import READ_S, Repairs, Sources
from fallow.verticals.storage.control.segments import LATE_MS
from fallow.verticals.storage.core.calls.segments import Place, Plan
from fallow.verticals.storage.core.facts import StorageServed
from fallow.verticals.storage.core.orders import OrderLimit, PieceClaim
from tests.dying_database import Dying
from tests.epoch_files import NET, NETWORK_KEY
from tests.memory_nodes import Wants
from tests.network import until, until_async
from tests.places_world import BUCKET, HOUR_MS, STREAM, Killed, Machine, machines, offer, signing
from tests.repair_world import RepairWorld, payload_of, pieces_of, repair_world

PAYLOAD = payload_of(600_000)
_HELD_UP = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


@pytest.fixture
async def world(postgres_dsn: str) -> AsyncIterator[RepairWorld]:
    """A network with sixteen machines."""
    async with repair_world(postgres_dsn, lambda: list(machines(16))) as world:
        yield world


async def first(world: RepairWorld, segment: bytes, count: int) -> list[Machine]:
    """Those that have the first pieces of a segment."""
    found = await world.holders(segment)
    return [one for one in found[:count] if one is not None]


async def no_garbage_stays(world: RepairWorld, segment: bytes) -> None:
    """Once all are back and asked, there is nothing of a segment but what counts."""
    world.come_back(*world.machines.values())
    for _ in range(2):
        await world.pass_time(LATE_MS + 1)
        await world.collect()
    live = {one.id for one in await world.holders(segment) if one}
    for node, kept in world.kept.items():
        assert (world.secrets.piece(segment, node) in kept.pieces) == (node in live)
    assert await world.count("garbage") == await world.count("dropped") == 0


async def test_at_the_threshold_all_pieces_are_restored_byte_for_byte(world: RepairWorld) -> None:
    plan = await world.put(PAYLOAD)
    gone = await first(world, plan.segment, 2)
    world.leave(*gone)
    await world.pass_time()
    await world.mend()
    assert await world.pieces(plan.segment) == pieces_of(plan, PAYLOAD)
    assert not {one.id for one in gone} & {one.id for one in await world.holders(plan.segment) if one}
    assert await world.count("repair") == 0
    (read,) = await world.read(0, len(PAYLOAD))
    assert {place.number for place in read.places} >= {0, 1, 2, 3}
    await no_garbage_stays(world, plan.segment)


async def test_above_the_threshold_or_away_for_a_while_nothing_is_moved(world: RepairWorld) -> None:
    plan = await world.put(PAYLOAD)
    world.leave(*await first(world, plan.segment, 1))
    await world.pass_time()
    assert await world.find() == 0
    world.leave(*await first(world, plan.segment, 4))
    await world.pass_time(LOST_MS // 4)
    assert await world.find() == 0


async def test_a_lost_node_begins_a_pass_at_once(world: RepairWorld) -> None:
    plan = await world.put(PAYLOAD)
    await world.pass_time()
    await world.find()
    world.leave(*await first(world, plan.segment, 2))
    await world.pass_time(LOST_MS - HOUR_MS)
    await world.find()
    await world.pass_time(HOUR_MS + 1)
    await world.scan.page()
    assert await world.count("repair") == 1


async def test_a_whole_network_that_was_away_has_lost_nobody(world: RepairWorld) -> None:
    await world.put(PAYLOAD)
    world.clock.advance(10 * LOST_MS)
    world.places = world.process()
    async with world.places.nodes.running(world.ground()):
        world.restart()
        while await world.scan.page():
            pass
    assert await world.count("repair") == 0


async def test_pieces_that_came_onto_one_network_count_once_and_are_spread_again(world: RepairWorld) -> None:
    plan = await world.put(PAYLOAD)
    together = await first(world, plan.segment, 3)
    async with world.database.transaction() as tx:
        for machine in together:
            await world.registry.observe(tx, machine.id, "198.51.100.0/24", 2)
    await world.pass_time()
    await world.mend()
    holders = [one for one in await world.holders(plan.segment) if one]
    assert len({one.id for one in together} & {one.id for one in holders}) == 1
    assert await world.pieces(plan.segment) == pieces_of(plan, PAYLOAD)
    await no_garbage_stays(world, plan.segment)


async def fence(world: RepairWorld, *countries: str) -> None:
    """The buyer's bucket is bound to countries."""
    world.versions.bucket = BUCKET._replace(countries=countries)
    async with world.database.transaction() as tx:
        await tx.execute(
            "INSERT INTO storage.bucket (id, name, account, made_ms, profile, countries, versioning, lock)"
            " OVERRIDING SYSTEM VALUE VALUES ($1, 'fenced', $2, 0, '', $3, 'off', false)",
            BUCKET.id,
            BUCKET.account,
            list(countries),
        )


async def test_pieces_of_a_bucket_in_some_countries_are_made_anew_there(world: RepairWorld) -> None:
    inside = [Machine(number) for number in range(30, 40)]
    await world.enrol(*inside, country="DE")
    await fence(world, "DE", "FR")
    plan = await world.put(PAYLOAD)
    world.leave(*await first(world, plan.segment, 2))
    await world.pass_time()
    await world.collect()  # the two that were named to spare may have a piece until then
    await world.mend()
    assert await world.pieces(plan.segment) == pieces_of(plan, PAYLOAD)
    assert {one.id for one in await world.holders(plan.segment) if one} <= {one.id for one in inside}
    world.leave(*await first(world, plan.segment, 2))
    await world.pass_time()
    await world.mend()
    assert await world.count("repair") == 1, "no machine that is left there has none, and others take none"
    assert (await world.pieces(plan.segment))[:2] == [None, None]


async def test_a_piece_whose_machine_has_left_the_countries_of_its_bucket_goes_to_another_there(
    world: RepairWorld,
) -> None:
    await world.enrol(*(Machine(number) for number in range(30, 40)), country="DE")
    await fence(world, "DE")
    plan = await world.put(PAYLOAD)
    (abroad,) = await first(world, plan.segment, 1)
    await world.say(abroad, offer("US"))
    await world.read_log()
    await world.pass_time()
    await world.collect()
    await world.mend()
    assert abroad.id not in {one.id for one in await world.holders(plan.segment) if one}
    assert await world.pieces(plan.segment) == pieces_of(plan, PAYLOAD)
    assert await world.count("repair") == 0
    await no_garbage_stays(world, plan.segment)


async def test_what_is_likeliest_to_be_lost_is_repaired_first(world: RepairWorld) -> None:
    plans = [await world.put(PAYLOAD[:1000], bytes([number]) * 16) for number in range(24)]
    # Of the first segment three pieces are lost; of some of the others two, or one more.
    world.leave(*await first(world, plans[0].segment, 3))
    await world.pass_time()
    await world.find()
    left = {plan.segment: sum(piece is not None for piece in await world.pieces(plan.segment)) for plan in plans}
    async with world.database.transaction() as tx:
        found = [await REPAIR.take(tx, world.clock.now_ms()) for _ in range(await world.count("repair"))]
    counts = [left[segment] for segment in found if segment]
    assert counts == sorted(counts)
    assert set(found) == {segment for segment, count in left.items() if count <= 6}
    assert len(set(counts)) > 1


async def test_a_source_that_was_altered_is_found_and_made_anew(world: RepairWorld) -> None:
    plan = await world.put(PAYLOAD)
    gone, liar = await first(world, plan.segment, 2), (await first(world, plan.segment, 3))[2]
    world.leave(*gone)
    world.kept[liar.id].wants = Wants(flips=True)
    piece = world.secrets.piece(plan.segment, liar.id)
    await world.pass_time()
    await world.mend()
    assert await world.pieces(plan.segment) == pieces_of(plan, PAYLOAD)
    assert liar not in await world.holders(plan.segment)
    [(node, code, evidence)] = await world.found()
    assert (node, code) == (liar.id, "storage.audit_failed")
    assert evidence is not None
    assert evidence.found.startswith("failed: not given for a repair (storage.other_piece): it has the BLAKE3")
    assert (evidence.piece, evidence.answer) == (piece, world.kept[liar.id].claims[piece]), "its client's own word"
    audits = await world.audits()
    assert [count for count, _ in audits.values()] == [1] * 6, "sources that were right passed"
    assert {node for node, (_, score) in audits.items() if score < 1} == {liar.id}


async def test_what_a_source_has_deleted_counts_as_lost_at_once_though_nobody_takes_it(world: RepairWorld) -> None:
    plan = await world.put(PAYLOAD)
    holders = await first(world, plan.segment, 8)
    world.leave(*holders[:2])
    world.lose(plan.segment, *holders[2:4])
    for one in world.machines.values():
        world.kept[one.id].wants = Wants(refuses=one not in holders)
    await world.pass_time()
    await world.mend()
    assert {(node, code) for node, code, _ in await world.found()} == {
        (one.id, "storage.audit_failed") for one in holders[2:4]
    }
    assert [one for one in await world.holders(plan.segment) if one] == [*holders[:2], *holders[4:]]
    for one in world.machines.values():
        world.kept[one.id].wants = Wants()
    await world.pass_time(LATE_MS + 1)
    await world.collect()
    await world.mend()
    assert await world.pieces(plan.segment) == pieces_of(plan, PAYLOAD)
    assert len(await world.found()) == 2, "once is enough"


async def test_pieces_of_which_too_few_would_be_left_stay_written(world: RepairWorld) -> None:
    plan = await world.put(PAYLOAD)
    holders = await first(world, plan.segment, 8)
    world.leave(*holders[:2])
    world.lose(plan.segment, *holders[2:])
    await world.pass_time()
    await world.mend()
    assert len(await world.found()) == 6
    assert len([one for one in await world.holders(plan.segment) if one]) == 4, "as many as it takes"


async def test_a_source_that_is_too_slow_or_breaks_off_has_not_failed_and_is_asked_by_an_auditor(
    world: RepairWorld,
) -> None:
    plan = await world.put(PAYLOAD)
    holders = await first(world, plan.segment, 8)
    world.leave(*holders[:2])
    slow, broken, *others = holders[2:]
    world.kept[slow.id].wants = Wants(stalls=True)
    world.kept[broken.id].wants = Wants(dies_after=1)
    await world.pass_time()
    await world.find()

    async with asyncio.TaskGroup() as group:
        repairing = group.create_task(world.repairs.repair_next())
        await until(lambda: all(world.kept[one.id].paid["get"] for one in others), "all others are read")
        for _ in range(100):
            await asyncio.sleep(0)
        world.clock.advance(int(READ_S * 1000))
        await world.tell()
        assert await repairing
    assert await world.found() == []
    assert await world.contained() == {one.id: Contained(plan.segment, -1, 0) for one in (slow, broken)}
    asked = {job.lender.node: (job.segment, job.tries) for job in await due(world)}
    assert {asked[one.id] for one in (slow, broken)} == {(plan.segment, 0)}


async def due(world: RepairWorld) -> list[Job]:
    """What auditors ask, where all nodes are due."""
    async with world.database.transaction() as tx:
        await tx.execute("UPDATE storage.reputation SET next_ms = 0")
    return await world.places.audits.take(256)


async def test_pieces_that_never_fitted_are_made_anew_and_are_their_clients_doing(world: RepairWorld) -> None:
    plan = await world.put(PAYLOAD)
    gone, honest = await first(world, plan.segment, 2), (await first(world, plan.segment, 3))[2]
    world.leave(*gone)
    kept, piece = world.kept[honest.id], world.secrets.piece(plan.segment, honest.id)
    kept.pieces[piece] = brought = bytes(len(kept.pieces[piece]))
    claim = PieceClaim(net=NET, piece=piece, length=len(brought), hash=blake3(brought).digest())
    kept.claims[piece] = claim.seal(signing(world.client))
    await world.pass_time()
    await world.mend()
    assert honest not in await world.holders(plan.segment)
    assert await world.pieces(plan.segment) == pieces_of(plan, PAYLOAD)
    assert await world.found() == []
    assert (await world.audits())[honest.id] == (1, 1.0)


async def test_what_was_not_answered_is_asked_again_whatever_repairs_are_given_meanwhile(world: RepairWorld) -> None:
    plan, other = await world.put(PAYLOAD), await world.put(PAYLOAD, b"o" * 16)
    gone = await first(world, plan.segment, 2)
    both = [one for one in await world.holders(other.segment) if one in await world.holders(plan.segment)]
    asked = next(one for one in both if one and one not in gone)
    world.leave(*gone)
    await world.pass_time()
    await world.places.audits.take(0)
    before = Contained(other.segment, 3, 2)
    async with world.database.transaction() as tx:
        await tx.execute(
            "UPDATE storage.reputation r SET contained = $2 FROM storage.node n WHERE n.alias = r.alias AND node = $1",
            asked.id,
            msgspec.msgpack.encode(before),
        )
    await world.find()
    async with world.database.transaction() as tx:
        await tx.execute("DELETE FROM storage.repair WHERE segment = $1", other.segment)
    await world.repairs.repair_next()
    assert (await world.audits())[asked.id] == (1, 1.0)
    assert await world.contained() == {asked.id: before}
    assert {(job.segment, job.tries) for job in await due(world) if job.lender.node == asked.id} == {(other.segment, 2)}
    await world.drop(b"o" * 16)
    await due(world)
    assert await world.contained() == {}, "nobody is asked for ever for what is gone"


@pytest.mark.parametrize("why", ["restored", "found nowhere"])
async def test_after_a_restore_nobody_has_failed_for_what_he_was_told_to_delete(world: RepairWorld, why: str) -> None:
    plan = await world.put(PAYLOAD)
    holders = await first(world, plan.segment, 8)
    world.leave(*holders[:2])
    world.lose(plan.segment, holders[2])
    await world.pass_time()
    async with world.database.transaction() as tx:
        if why == "restored":
            await tx.execute("INSERT INTO storage.recovering SELECT alias FROM storage.node")
        else:
            await tx.execute("UPDATE storage.segment SET client = -client")
    await world.mend()
    assert await world.found() == []
    assert await world.audits() == {}


async def test_without_enough_pieces_it_waits_until_nodes_are_back(world: RepairWorld) -> None:
    plan = await world.put(PAYLOAD)
    gone = await first(world, plan.segment, 5)
    world.leave(*gone)
    await world.pass_time()
    await world.mend()
    async with world.database.transaction() as tx:
        (row,) = await tx.fetch("SELECT reason FROM storage.repair")
    assert "3 can be read" in row["reason"]
    world.come_back(gone[0])  # just as many as it takes
    await world.pass_time()
    await world.mend()
    assert await world.pieces(plan.segment) == pieces_of(plan, PAYLOAD)


async def test_nodes_that_refuse_are_replaced_by_others(world: RepairWorld) -> None:
    plan = await world.put(PAYLOAD)
    holders = [one for one in await world.holders(plan.segment) if one]
    world.leave(*holders[:2])
    for one in [one for one in world.machines.values() if one not in holders][:2]:
        world.kept[one.id].wants = Wants(refuses=True)
    await world.pass_time()
    await world.mend()
    await world.mend()
    assert await world.pieces(plan.segment) == pieces_of(plan, PAYLOAD)


@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("step", ["take", "look up", "book", "name", "bring", "move", "done"])
async def test_a_crash_at_any_step_leaves_no_fewer_pieces_and_the_next_process_repairs(
    world: RepairWorld, step: str, committed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = await world.put(PAYLOAD)
    world.leave(*await first(world, plan.segment, 2))
    await world.pass_time()
    await world.find()
    transactions = ["take", "look up", "see who may be audited", "book", "name", "move", "done"]
    at = transactions.index(step) + 1 if step in transactions else 0
    dying = repairs(
        world.ground()._replace(database=Dying(world.database, at, committed=committed)),
        world.places.nodes,
        world.reach,
        Watch(world.clock),
    )
    if step == "bring":
        real = dying._bring_one

        async def dies(place: Place, piece: memoryview) -> bool:
            if committed:
                await real(place, piece)
            raise Killed

        monkeypatch.setattr(dying, "_bring_one", dies)
    with pytest.raises((Killed, ExceptionGroup)):
        await dying.repair_next()
    there = await world.pieces(plan.segment)
    assert sum(piece is not None for piece in there) == (
        8 if step == "done" or (step, committed) == ("move", True) else 6
    )
    await world.pass_time(TAKEN_MS + 1)
    await world.mend()
    assert await world.pieces(plan.segment) == pieces_of(plan, PAYLOAD)
    assert await world.count("repair") == 0
    await no_garbage_stays(world, plan.segment)


async def test_an_object_that_is_deleted_during_its_repair_leaves_nothing(
    world: RepairWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = await world.put(PAYLOAD)
    world.leave(*await first(world, plan.segment, 2))
    await world.pass_time()
    await world.find()
    real = repair_rows.move

    async def late(*args: Any) -> None:
        await world.drop(STREAM)
        await real(*args)

    with monkeypatch.context() as patched:
        patched.setattr(repair_rows, "move", late)
        assert await world.repairs.repair_next()
    await world.pass_time(TAKEN_MS + 1)
    await world.mend()
    assert await world.count("repair") == await world.count("segment") == 0
    world.come_back(*world.machines.values())
    for _ in range(2):
        await world.pass_time(LATE_MS + 1)
        await world.collect()
    assert not any(kept.pieces for kept in world.kept.values())
    assert await world.count("garbage") == 0


async def test_two_that_repair_the_same_segment_do_not_undo_each_other(world: RepairWorld) -> None:
    plan = await world.put(PAYLOAD)
    world.leave(*await first(world, plan.segment, 2))
    await world.pass_time()
    await world.find()
    one = world.repairs
    world.restart()

    async def repair(repairs: Any) -> None:
        await repairs._repair(plan.segment, REPAIR)

    await asyncio.gather(repair(one), repair(world.repairs), return_exceptions=True)
    assert await world.pieces(plan.segment) == pieces_of(plan, PAYLOAD)
    await no_garbage_stays(world, plan.segment)


async def damaged(world: RepairWorld) -> Plan:
    """A segment that two of its nodes were lost of."""
    plan = await world.put(PAYLOAD)
    world.leave(*await first(world, plan.segment, 2))
    await world.pass_time()
    await world.find()
    return plan


def drawing_alike(world: RepairWorld) -> tuple[Repairs, Repairs]:
    """Two processes that draw the same of the same nodes."""
    both = list[Repairs]()
    for _ in range(2):
        world.restart()
        world.repairs._uniform = random.Random(1).random
        both.append(world.repairs)
    return both[0], both[1]


async def test_two_that_draw_at_once_never_name_the_same_node(
    world: RepairWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = await damaged(world)
    named, both = list[int](), asyncio.Barrier(2)
    really_read, really_bring = Repairs._read, Repairs._bring_some

    async def read(self: Repairs, *args: Any) -> Sources:
        found = await really_read(self, *args)
        await both.wait()
        return found

    async def bring(self: Repairs, segment: Damaged, numbers: Any, nodes: list[Lender], pieces: Any) -> dict[int, int]:
        named.extend(one.alias for one in nodes)
        await both.wait()
        return await really_bring(self, segment, numbers, nodes, pieces)

    monkeypatch.setattr(Repairs, "_read", read)
    monkeypatch.setattr(Repairs, "_bring_some", bring)
    repairing = (one._repair(plan.segment, REPAIR) for one in drawing_alike(world))
    won, lost = sorted(await asyncio.gather(*repairing, return_exceptions=True), key=lambda one: one is not True)
    assert won is True
    assert isinstance(lost, Conflict)
    assert lost.code == "storage.segment_changed"
    assert len(named) == len(set(named)) == 4
    assert await world.pieces(plan.segment) == pieces_of(plan, PAYLOAD)
    await no_garbage_stays(world, plan.segment)


async def test_who_draws_after_another_has_repaired_names_nobody(
    world: RepairWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = await damaged(world)
    late, quick = drawing_alike(world)
    real = late._read

    async def read(*args: Any) -> Sources:
        assert await quick._repair(plan.segment, REPAIR)
        return await real(*args)

    monkeypatch.setattr(late, "_read", read)
    with pytest.raises(Conflict) as refused:
        await late._repair(plan.segment, REPAIR)
    assert refused.value.code == "storage.segment_changed"
    assert await world.count("garbage") == 2, "of the nodes that were lost"
    assert await world.pieces(plan.segment) == pieces_of(plan, PAYLOAD)
    await no_garbage_stays(world, plan.segment)


async def test_who_names_nodes_waits_for_who_names_or_moves_at_that_moment(world: RepairWorld) -> None:
    plan = await damaged(world)
    free = max(one.alias for one in world.places.nodes.candidates(without=[]))

    async def hold() -> set[int]:
        async with world.database.transaction() as tx:
            return await repair_rows.hold(tx, segment)

    async def held_up() -> bool:
        async with world.database.transaction() as tx:
            return bool(await tx.fetch(_HELD_UP))

    async with asyncio.TaskGroup() as group:
        async with world.database.transaction() as tx:
            found = await repair_rows.look_up(tx, plan.segment)
            assert found is not None
            segment = found
            before = await repair_rows.hold(tx, segment)
            named = await repair_rows.name(tx, segment, [free], world.clock.now_ms())
            other = group.create_task(hold())
            await until_async(held_up, "the other waits")
        assert await other == {*before, free}

    async def refused() -> None:
        with pytest.raises(Conflict):
            await hold()

    async with asyncio.TaskGroup() as group, world.database.transaction() as tx:
        await repair_rows.move(tx, segment, {0: free}, [named], world.clock.now_ms())
        group.create_task(refused())
        await until_async(held_up, "the other waits")


async def test_what_is_moved_is_paid_to_the_new_nodes_from_then_on(world: RepairWorld) -> None:
    plan = await world.put(PAYLOAD)
    gone = await first(world, plan.segment, 2)
    world.leave(*gone)
    await world.pass_time()
    await world.mend()
    while await world.places.metering.add_up():
        pass
    async with world.database.transaction() as tx:
        rows = await tx.fetch("SELECT payee, bytes FROM storage.stored WHERE bytes > 0")
        (whole,) = await tx.fetch("SELECT bytes FROM storage.payer WHERE bucket = $1", BUCKET.id)
    assert {row["payee"] for row in rows} == {one.account for one in await world.holders(plan.segment) if one}
    assert whole["bytes"] == sum(row["bytes"] for row in rows) == 8 * len(pieces_of(plan, PAYLOAD)[0])


async def test_what_is_read_for_a_repair_is_added_up_and_costs_no_buyer_anything(world: RepairWorld) -> None:
    plan = await world.put(PAYLOAD)
    gone = await first(world, plan.segment, 2)
    world.leave(*gone)
    await world.pass_time()
    limits, signed = list[tuple[Machine, bytes]](), world.reach.open

    async def opened(place: Place, request: bytes) -> Any:
        limits.append((world.machines[place.node], place.limit))
        return await signed(place, request)

    world.reach.open = opened  # type: ignore[method-assign]  # the test listens
    await world.mend()
    read = [(one, limit) for one, limit in limits if OrderLimit.open(limit, NETWORK_KEY).action == "repair_get"]
    for machine, limit in read:
        await world.say(machine, StorageServed(served=[[limit, world.order(limit, 1000, world.secrets.repairer())]]))
    await world.read_log()
    async with world.database.transaction() as tx:
        rows = await tx.fetch("SELECT account, payee, bytes FROM storage.egress")
        (sums,) = await tx.fetch("SELECT sum(egress) AS bought, sum(repaired) AS repaired FROM storage.lender_day")
    assert (sums["bought"], sums["repaired"]) == (0, 1000 * len(read))
    assert {row["payee"]: row["bytes"] for row in rows} == {machine.account: 1000 for machine, _ in read}
    assert {row["account"] for row in rows} == {REPAIRS.account}
    assert await world.usage() == []
    await world.places.bills.tell_all()
    assert await world.count("bill") == 0


async def test_claims_of_who_repairs_count_whoever_named_its_key_before(world: RepairWorld) -> None:
    key = bytes(world.secrets.repairer().verify_key)
    async with world.database.transaction() as tx:
        await tx.execute("INSERT INTO storage.client (key) VALUES ($1)", key)
        await repair_rows.introduce(tx, key)
        assert await tx.fetch("SELECT 1 FROM storage.client WHERE key = $1 AND repairs", key)


async def test_a_pass_that_is_cut_off_goes_on_where_it_was_whoever_takes_it_up(
    world: RepairWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "BLOCKS_AT_ONCE", 1)
    async with world.database.transaction() as tx:
        await tx.execute(
            "INSERT INTO storage.segment SELECT uuid_send(gen_random_uuid()), 7, uuid_send(gen_random_uuid()), 0, 0,"
            " 1000, '', 'lab', CASE WHEN n % 2 = 0 THEN '{1,2,3,4,5,6,0,0}' ELSE '{1,2,3,4,5,6,7,0}' END::integer[], 1,"
            " true FROM generate_series(1, 300) AS n"
        )
    other = scanning.Scan(world.clock, world.database, world.places.nodes)
    await world.pass_time()
    pages = 0
    while await (world.scan if pages % 2 else other).page():
        pages += 1
    assert pages >= 4
    assert await world.count("repair") == 150
    assert not await world.scan.page()


@pytest.mark.parametrize("seed", range(3))
async def test_under_churn_everything_stays_readable(world: RepairWorld, seed: int) -> None:
    draw = random.Random(seed)
    plans = {number: await world.put(payload_of(9000, number), bytes([number]) * 16) for number in range(6)}
    for _ in range(12):
        away = [one for one in world.machines.values() if one.away]
        world.come_back(*away)
        world.leave(*draw.sample([*world.machines.values()], 3))
        await world.pass_time()
        await world.collect()
        await world.mend()
        await world.mend()
        for number, plan in plans.items():
            whole = pieces_of(plan, payload_of(9000, number))
            found = await world.pieces(plan.segment)
            assert all(piece in (None, whole[at]) for at, piece in enumerate(found))
            assert sum(piece is not None for piece in found) >= 5


class Course:
    """Does at random what nodes, buyers, clocks and processes can do."""

    def __init__(self, world: RepairWorld, seed: int) -> None:
        self.world, self.rng = world, random.Random(seed)
        self.stored: dict[bytes, Plan] = {}

    async def put(self) -> None:
        stream = self.rng.randbytes(16)
        if len(self.stored) < 6:
            try:
                self.stored[stream] = await self.world.put(payload_of(4000), stream)
            except Unavailable:
                return

    async def drop(self) -> None:
        if len(self.stored) > 2:
            stream = self.rng.choice([*self.stored])
            del self.stored[stream]
            await self.world.drop(stream)

    async def leave_or_come(self) -> None:
        machine = self.rng.choice([*self.world.machines.values()])
        if machine.away:
            self.world.come_back(machine)
        elif sum(one.away for one in self.world.machines.values()) < 3:
            self.world.leave(machine)

    async def pass_time(self) -> None:
        await self.world.pass_time(self.rng.choice([1000, HOUR_MS, LOST_MS + HOUR_MS]))

    async def collect(self) -> None:
        await self.world.collect()

    async def repair(self) -> None:
        """By a process that may die at any of its steps."""
        await self.world.find()
        dying = Dying(self.world.database, self.rng.randint(1, 9), committed=self.rng.random() < 0.5)
        ground = self.world.ground()._replace(database=dying)
        found = repairs(ground, self.world.places.nodes, self.world.reach, Watch(self.world.clock))
        try:
            while await found.repair_next():
                pass
        except (Killed, ExceptionGroup):
            return

    async def step(self) -> None:
        steps = [self.put, self.drop, self.leave_or_come, self.leave_or_come, self.pass_time, self.collect]
        await self.rng.choice([*steps, self.repair, self.repair])()
        await self.world.tell()

    async def check(self) -> None:
        """Whoever is said to have a piece has it, and no two have the same one."""
        for plan in self.stored.values():
            whole = pieces_of(plan, payload_of(4000))
            holders = await self.world.holders(plan.segment)
            for piece, one in zip(whole, holders, strict=True):
                assert (
                    one is None
                    or self.world.kept[one.id].pieces[self.world.secrets.piece(plan.segment, one.id)] == piece
                )
            held = [one.id for one in holders if one]
            assert len(set(held)) == len(held)


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_happens_whoever_counts_has_his_piece_and_nothing_else_stays(
    world: RepairWorld, seed: int
) -> None:
    course = Course(world, seed)
    for _ in range(40):
        await course.step()
        await course.check()
    world.come_back(*world.machines.values())
    await world.pass_time(TAKEN_MS + LATE_MS)
    for _ in range(2):
        await world.collect()
        await world.pass_time(LATE_MS + 1)
        await world.mend()
    await world.pass_time(LATE_MS + 1)
    await world.collect()
    await course.check()
    counted = sum(
        [[one is not None for one in await world.holders(plan.segment)].count(True) for plan in course.stored.values()]
    )
    assert sum(len(kept.pieces) for kept in world.kept.values()) == counted
    assert await world.count("repair") == await world.count("garbage") == 0


async def test_a_clock_that_was_ahead_for_a_while_keeps_nobody_from_looking_for_what_is_lost(
    world: RepairWorld,
) -> None:
    plan = await world.put(PAYLOAD)
    await world.find()
    async with world.database.transaction() as tx:  # as a clock leaves it that was a week ahead
        await tx.execute("UPDATE storage.scan SET began_ms = began_ms + $1, ended_ms = ended_ms + $1", 7 * 24 * HOUR_MS)
    world.leave(*await first(world, plan.segment, 3))
    await world.pass_time()
    assert await world.find() == 1
