"""The database goes back to an earlier time, nodes do not: what was acknowledged before comes back, nothing goes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from fallow.domain.errors import Conflict
from fallow.verticals.storage.control.inspection_rows import InspectionRows
from fallow.verticals.storage.control.recovering import AGAIN_MS_MAX, STRANGE_MS, TRIES_MAX, recovering_in
from fallow.verticals.storage.core.layout import SEGMENT_BYTES, Layout
from fallow.verticals.storage.core.questions import TakeBack, read_question
from fallow.verticals.storage.core.reputation import DAY_MS
from fallow.verticals.storage.core.tariff import EGRESS, STORED, TARIFF
from fallow.verticals.storage.core.upkeep import Inspect
from tests.engines import Engines
from tests.integration.test_storage_rolling import limits, next_hour
from tests.places_world import HOUR_MS, World, machines, places_world
from tests.rolled import Rolled

A, B = b"A" * 16, b"B" * 16


@pytest.fixture
async def world(postgres_dsn: str) -> AsyncIterator[World]:
    async with places_world(postgres_dsn) as world:
        world.clock.ms += 30 * DAY_MS
        await world.subscribe()
        await world.enrol(*machines(8))
        yield world


@pytest.fixture
async def rolled(world: World, engines: Engines) -> Rolled:
    """A was stored before, and was dropped since then; B was stored since then."""
    await world.store(stream=A)
    await world.keep(A)
    rolled = Rolled(world, engines)
    await rolled.keep()
    await world.store(stream=B)
    await world.keep(B)
    await world.drop(A)
    await world.collect()
    assert all(len(machine.trashed) == len(machine.has) == 1 for machine in world.machines.values())
    return rolled


async def named(world: World) -> list[int]:
    """The nodes of the only segment."""
    async with world.database.transaction() as tx:
        (row,) = await tx.fetch("SELECT nodes FROM storage.segment")
    return list(row["nodes"])


async def recovering(world: World) -> set[int]:
    async with world.database.transaction() as tx:
        return await recovering_in(tx)


async def test_pieces_come_back_out_of_the_trash_and_those_of_a_later_time_stay(world: World, rolled: Rolled) -> None:
    later = {machine.id: set(machine.has) for machine in world.machines.values()}
    await rolled.back()
    assert len(await recovering(world)) == 8
    assert await world.places.recovery.take_back()
    for _ in range(3):
        world.clock.ms += 25 * HOUR_MS
        await world.tell()
        await world.collect()
    for machine in world.machines.values():
        assert len(machine.trashed) == 1, "nobody was told to delete anything again"
        assert machine.has == {*machine.trashed, *later[machine.id]}
        assert not machine.purged
    assert await recovering(world) == set()
    assert not await world.places.recovery.take_back()
    assert 0 not in await named(world)


async def test_what_a_node_has_not_any_more_is_not_counted_on_and_not_asked_for(world: World, rolled: Rolled) -> None:
    purged = next(iter(world.machines.values()))
    purged.trashed.clear()
    await rolled.back()
    await world.places.recovery.take_back()
    assert sorted(await named(world))[:2] == [0, min(set(await named(world)) - {0})]
    async with world.database.transaction() as tx:
        (row,) = await tx.fetch("SELECT sum(bytes) AS bytes FROM storage.change WHERE bytes < 0")
    assert row["bytes"] < 0, "it is not paid for that piece any more"
    assert await places_audited(world) == {one.id for one in world.machines.values() if one is not purged}


async def test_what_too_few_nodes_have_stays_written_and_no_audit_asks_for_it(world: World, rolled: Rolled) -> None:
    for purged in [*world.machines.values()][:5]:
        purged.trashed.clear()
    await rolled.back()
    await world.places.recovery.take_back()
    assert sum(alias != 0 for alias in await named(world)) == 4
    assert await places_audited(world) == set()


async def test_who_is_away_is_asked_when_he_is_back_and_not_audited_before(world: World, rolled: Rolled) -> None:
    away = next(iter(world.machines.values()))
    away.away = True
    world.clock.ms += HOUR_MS
    await rolled.back()
    assert await world.places.recovery.take_back()
    assert len(await recovering(world)) == 1
    away.away = False
    await world.tell()
    assert away.id not in await places_audited(world)
    assert await world.places.recovery.take_back()
    assert len(away.has) == 2
    assert away.id in await places_audited(world)


@pytest.mark.parametrize(("waiting", "questions"), [(1000, [3]), (8, [1, 1, 1])])
async def test_a_node_is_asked_for_many_pages_of_segments_at_once(
    world: World, engines: Engines, monkeypatch: pytest.MonkeyPatch, waiting: int, questions: list[int]
) -> None:
    monkeypatch.setattr("fallow.verticals.storage.control.known_pieces.SEGMENTS_AT_ONCE", 1)
    monkeypatch.setattr("fallow.verticals.storage.control.recovering.WAITING_MAX", waiting)
    for stream in (A, B, b"C" * 16):
        await world.store(stream=stream)
        await world.keep(stream)
    rolled = Rolled(world, engines)
    await rolled.keep()
    await rolled.back()
    machine = next(iter(world.machines.values()))
    answer, asked = machine.asked, list[int]()

    async def counted(question: bytes) -> bytes:
        back = read_question(question)
        assert isinstance(back, TakeBack)
        asked.append(len(back.pieces))
        return await answer(question)

    monkeypatch.setattr(machine, "asked", counted)
    assert await world.places.recovery.take_back()
    assert asked == questions
    assert await recovering(world) == set()


async def test_who_is_there_and_never_answers_is_audited_after_a_day(world: World, rolled: Rolled) -> None:
    silent = next(iter(world.machines.values()))
    silent.silent = True
    await rolled.back()
    assert await world.places.recovery.take_back()
    assert not await world.places.recovery.take_back(), "it is not asked again at once"
    for _ in range(TRIES_MAX - 2):
        world.clock.ms += AGAIN_MS_MAX
        await world.tell()
        assert not await world.places.recovery.take_back()
    assert len(await recovering(world)) == 1
    assert silent.id not in await places_audited(world)
    world.clock.ms += AGAIN_MS_MAX
    await world.tell()
    assert await world.places.recovery.take_back()
    assert await recovering(world) == set()
    assert silent.id in await places_audited(world)


async def test_what_was_used_is_told_and_billed_once_though_hours_come_again_and_orders_are_handed_in_again(
    world: World, engines: Engines
) -> None:
    await world.store(SEGMENT_BYTES, stream=A)
    await world.keep(A)
    machine, (first, second, third) = await limits(world)
    await world.say(machine, world.served((first, 7_000_000)))
    told = await next_hour(world)
    rolled = Rolled(world, engines)
    await rolled.keep()
    await world.say(machine, world.served((first, 9_000_000), (second, 8_000_000)))
    assert sum(one.used.get(EGRESS, 0) for one in await next_hour(world)) == 10_000_000
    await rolled.back()
    await world.say(machine, world.served((first, 7_000_000), (first, 12_000_000), (third, 1_000_000)))
    await world.read_log()
    world.clock.advance(720 * HOUR_MS)
    told += await next_hour(world)

    stored, egress = 723 * Layout(SEGMENT_BYTES, 4).piece_bytes, 13_000_000
    for node in world.machines:
        mine = [one for one in told if one.node == node]
        assert sum(one.used[STORED] for one in mine) == stored
        assert sum(one.used.get(EGRESS, 0) for one in mine) == (egress if node == machine.id else 0)
        assert mine[1].begins == mine[0].ends
    days = await world.usage()
    assert sum(day.egress_bytes for day in days) == egress
    assert 8 * stored - len(days) < sum(day.stored_byte_hours for day in days) <= 8 * stored
    (paid,) = await world.owed()
    assert paid.settled_microusd + paid.owed_microusd == 8 * cost(STORED, stored) + cost(EGRESS, egress) > 200


async def test_nothing_is_taken_for_a_stray_for_seven_days(world: World, rolled: Rolled) -> None:
    rows = InspectionRows(world.database, world.clock, world.registry)
    await rolled.back()
    with pytest.raises(Conflict, match="restored from a backup"):
        await rows.ask(Inspect(account="", repair=True))
    await rows.ask(Inspect(account=""))
    async with world.database.transaction() as tx:
        await tx.execute("DELETE FROM storage.inspection")
    world.clock.ms += STRANGE_MS + 1
    assert (await rows.ask(Inspect(account="", repair=True))).state == "asked"


async def test_a_check_that_was_under_way_puts_nothing_into_the_trash(world: World, rolled: Rolled) -> None:
    rows, before, behind = InspectionRows(world.database, world.clock, world.registry), b"a" * 16, b"b" * 16
    await rows.ask(Inspect(account="", repair=True))
    assert await rows.take(before)
    await rolled.keep()
    await rolled.back()
    assert not await rows.goes_on(before, 1)
    assert await rows.take(behind) is False, "it is done anew, and repairs nothing"


async def test_a_database_that_was_never_restored_asks_nobody(world: World) -> None:
    for _ in range(2):
        await world.places.recovery.look()
        assert await recovering(world) == set()
    rows = InspectionRows(world.database, world.clock, world.registry)
    assert (await rows.ask(Inspect(account="", repair=True))).repair


async def places_audited(world: World) -> set[bytes]:
    """Nodes that are asked for a piece when audits are due."""
    await world.places.audits.take(100)  # who is new is given a time
    async with world.database.transaction() as tx:
        await tx.execute("UPDATE storage.reputation SET next_ms = 0")
    world.clock.ms += HOUR_MS  # a pass through all segments is over, another begins
    await world.tell()
    return {job.lender.node for job in await world.places.audits.take(100)}


def cost(meter: str, quantity: int) -> int:
    """What so much costs, rounded down."""
    return TARIFF[meter].microusd * quantity // TARIFF[meter].per
