"""What nodes are told of themselves is what the network counts and bills, node by node."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

import fallow.verticals.storage.control
from fallow.adapters.postgres.database import PostgresTransaction
from fallow.domain.calls.base import AccountRef
from fallow.domain.calls.subscriptions import SubscriptionRef
from fallow.domain.fees import FeeWord
from fallow.domain.identity import address_text
from fallow.domain.subscriptions import Price, Tariff
from fallow.ports.database import Row
from fallow.verticals.storage.control.metering import LENDER_DAYS
from fallow.verticals.storage.control.rates import learn, take_means
from fallow.verticals.storage.control.statements import EVERY_MS, month_of
from fallow.verticals.storage.core.layout import Layout
from fallow.verticals.storage.core.lenders import GetLenders
from fallow.verticals.storage.core.profiles import PROFILES
from fallow.verticals.storage.core.statements import Statement, Use, earned, expected_more
from fallow.verticals.storage.core.tariff import DAY_MS, EGRESS, FINE, STORED, TARIFF, TERABYTE, rates_of
from tests.epoch_files import NET, NETWORK_KEY
from tests.places_world import BUYER, HOUR_MS, STREAM, Machine, World, machines, places_world

SIZE = 50_000_000
PIECE = Layout(SIZE, 4).piece_bytes
SCHEMAS = Path(fallow.verticals.storage.control.__file__).parent / "schema"
SCHEMA, RATES = SCHEMAS / "0007_exits.sql", SCHEMAS / "0014_rates.sql"


@pytest.fixture
async def world(postgres_dsn: str) -> AsyncIterator[World]:
    async with places_world(postgres_dsn) as world:
        await world.subscribe(limit_microusd=10**9, paid=10**12)
        await world.enrol(*machines(12))
        yield world


async def told(world: World, machine: Machine) -> Statement:
    """What it is told now."""
    world.clock.advance(EVERY_MS)
    await world.tell()
    await world.places.meter()
    await world.places.statements.tell()
    return Statement.open(machine.told[-1], NETWORK_KEY)


async def test_a_node_hears_what_counts_on_it_and_what_was_read_of_it(world: World) -> None:
    plan = await world.store(SIZE)
    holder, idle = (world.machines[place.node] for place in (plan.places[0], plan.places[9]))
    await world.keep()
    first = await told(world, holder)
    assert (first.net, first.node, first.stored_bytes, first.standing) == (NET, holder.id, PIECE, "")
    assert (first.score_ppm, first.online_ppm, first.audits) == (1_000_000, 1_000_000, 0)
    assert (await told(world, idle)).stored_bytes == 0
    world.clock.advance(100 * HOUR_MS)
    (read,) = await world.read(0, SIZE)
    limit = next(place.limit for place in read.places if place.node == holder.id)
    await world.say(holder, world.served((limit, 3_000_000)))
    await world.read_log()
    then = await told(world, holder)
    assert then.egress_bytes == 3_000_000
    assert then.repair_bytes == 0
    assert then.stored_byte_hours == (then.at_ms - 1_000_000) * PIECE // HOUR_MS
    assert then.earned_microusd == earned(Use(then.stored_byte_hours, 3_000_000), rates_of(TARIFF), 100_000) // FINE
    assert then.expected_microusd > then.earned_microusd
    await world.drop(STREAM)
    await world.collect()
    gone = await told(world, holder)
    assert gone.stored_bytes == 0


async def test_alerts_of_however_many_nodes_are_one_question_to_the_database(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = world.machines[next(iter(world.machines))].account
    async with world.database.transaction() as tx:
        await tx.execute("UPDATE storage.node SET account = $1", account)
        await tx.execute("UPDATE storage.node SET exit = 'left' WHERE alias % 6 = 0")
        await tx.execute(
            "INSERT INTO storage.finding (alias, at_ms, kind, code, text, evidence, told)"
            " SELECT alias, $1, kind, 'storage.audits_unknown', kind, '', true FROM storage.node,"
            " (VALUES ('warning', 1), ('suspended', 2), ('reinstated', 3)) AS k (kind, n)"
            " WHERE n < 3 OR alias % 2 = 0 ORDER BY n",
            world.clock.now_ms(),
        )
        nodes = await tx.fetch("SELECT node FROM storage.node WHERE alias % 2 = 1 ORDER BY node")
    asked: list[str] = []
    fetch = PostgresTransaction.fetch

    async def counted(tx: PostgresTransaction, query: str, *args: object) -> Sequence[Row]:
        asked.append(query)
        return await fetch(tx, query, *args)

    with monkeypatch.context() as patch:
        patch.setattr(PostgresTransaction, "fetch", counted)
        found = await world.places.lenders.alerts(AccountRef(account=address_text(account)))
    assert [one.subject for one in found] == [row["node"].hex() for row in nodes]
    assert {one.values["kind"] for one in found} == {"suspended"}
    assert len(asked) == 1
    shown = await world.places.lenders.get(GetLenders(account=address_text(account)))
    assert {one.node: [note.kind for note in one.alerts] for one in shown if one.alerts} == {
        row["node"]: ["suspended"] for row in nodes
    }
    assert len(shown) == 12 - 2


async def test_what_counts_on_all_nodes_is_what_buyers_are_billed_for(world: World) -> None:
    for number in range(3):
        await world.store(SIZE, stream=bytes([number]) * 16)
    await world.places.meter()
    world.clock.advance(500 * HOUR_MS)
    nodes = [await told(world, one) for one in world.machines.values()]
    await world.places.meter()
    async with world.database.transaction() as tx:
        (row,) = await tx.fetch("SELECT sum(byte_ms) AS all_ FROM storage.day")
        (lenders,) = await tx.fetch("SELECT sum(byte_ms) AS all_ FROM storage.lender_day")
    assert row["all_"] == lenders["all_"] > 0
    assert sum(one.stored_bytes for one in nodes) == 3 * 8 * PIECE
    old = world.clock.now_ms() // DAY_MS
    world.clock.advance((LENDER_DAYS + 1) * DAY_MS)
    await world.places.meter()
    async with world.database.transaction() as tx:
        (kept,) = await tx.fetch("SELECT min(day) AS first FROM storage.day")
        (lent,) = await tx.fetch("SELECT min(day) AS first FROM storage.lender_day")
    assert kept["first"] <= old < lent["first"], "nodes' days of long ago are forgotten, buyers' are not"


DAYS = ("SELECT * FROM storage.day ORDER BY 1, 2", "SELECT * FROM storage.lender_day ORDER BY 1, 2")
DEAR = {
    STORED: Price(microusd=4_000_000_000, per=TERABYTE * 720),
    EGRESS: Price(microusd=7_000_000_000, per=TERABYTE),
}


def costs(use: Use, tariff: Tariff) -> int:
    return earned(use, rates_of(tariff), 0)


async def test_what_a_buyer_pays_and_an_owner_earns_goes_by_the_tariff_and_the_fee_that_held_then(world: World) -> None:
    plan = await world.store(SIZE)
    holder = world.machines[plan.places[0].node]
    await world.keep()
    world.clock.advance(400 * HOUR_MS)
    first = await told(world, holder)
    assert first.earned_microusd == costs(Use(first.stored_byte_hours, 0), TARIFF) * 9 // 10 // FINE > 5
    (cheap,) = await world.owed()
    await world.settle.close(SubscriptionRef(account=address_text(BUYER), id=cheap.id))
    world.fees.words = [FeeWord(world.clock.now_ms() + 1, 250_000, 0)]
    await world.subscribe(limit_microusd=10**9, number=2, paid=10**12, tariff=DEAR)
    world.clock.advance(100 * HOUR_MS)
    (read,) = await world.read(0, SIZE)
    limit = next(place.limit for place in read.places if place.node == holder.id)
    await told(world, holder)
    await world.say(holder, world.served((limit, 5_000_000)))
    await world.read_log()
    second = await told(world, holder)
    more = Use(second.stored_byte_hours - first.stored_byte_hours, 5_000_000)
    rise = second.earned_microusd - first.earned_microusd
    assert rise in {costs(more, DEAR) * 3 // 4 // FINE, costs(more, DEAR) * 3 // 4 // FINE + 1}
    rest = expected_more(month_of(second.at_ms), second.at_ms, PIECE, Use(second.stored_byte_hours, 5_000_000))
    assert abs(second.expected_microusd - second.earned_microusd - costs(rest, DEAR) * 3 // 4 // FINE) <= 1
    cheap, dear = await world.owed()
    shown = sum(day.cost_microusd for day in await world.usage())
    assert (cheap.tariff, dear.tariff) == (TARIFF, DEAR)
    assert cheap.settled_microusd > 0 < dear.owed_microusd
    assert abs(shown - cheap.settled_microusd - dear.owed_microusd) <= 8 * 2 * 2, "each payee and meter rounds once"


async def test_an_owner_is_told_of_the_mean_of_what_those_pay_whose_pieces_he_holds(world: World) -> None:
    owner, rich, poor = b"o" * 20, b"r" * 20, b"p" * 20
    async with world.database.transaction() as tx:
        await tx.execute(
            "INSERT INTO storage.stored (account, payee, bytes, less)"
            " SELECT a, p, b, 0 FROM unnest($1::bytea[], $2::bytea[], $3::numeric[]) AS s (a, p, b)",
            [rich, poor, poor],
            [owner, owner, b"x" * 20],
            [3000, 1000, 0],
        )
        await learn(tx, rich, DEAR)
        for _ in range(2):
            await take_means(tx)
        rows = await tx.fetch("SELECT payee, stored, egress FROM storage.mean_rate ORDER BY payee")
    first, dear = rates_of(TARIFF), rates_of(DEAR)
    assert [tuple(row) for row in rows] == [
        (owner, (3 * dear.stored + first.stored) // 4, (3 * dear.egress + first.egress) // 4),
        (b"x" * 20, first.stored, first.egress),
    ]


async def test_what_was_counted_before_there_were_tariffs_cost_what_the_one_of_the_version_did(world: World) -> None:
    await world.store(SIZE)
    world.clock.advance(100 * HOUR_MS)
    await world.places.meter()
    reckon = re.search(r"UPDATE storage.day.*", RATES.read_text(), re.DOTALL)
    assert reckon is not None
    async with world.database.transaction() as tx:
        await tx.execute("UPDATE storage.day SET egress = 7, cost = cost + 7 * $1::numeric", rates_of(TARIFF).egress)
        before = [await tx.fetch(query) for query in DAYS]
        await tx.execute("UPDATE storage.day SET cost = 0")
        await tx.execute("UPDATE storage.lender_day SET earned = 0")
        await tx.execute(reckon[0])
        after = [await tx.fetch(query) for query in DAYS]
    assert after == before
    assert all(row["earned"] > 0 for row in after[1])


async def test_it_is_told_every_ten_minutes_and_again_where_it_did_not_hear(world: World) -> None:
    machine = next(iter(world.machines.values()))
    for times in (1, 2):
        await told(world, machine)
        await world.places.statements.tell()
        assert len(machine.told) == times
    machine.away = True
    await told(world, machine)
    machine.away = False
    await told(world, machine)
    assert len(machine.told) == 3


async def test_networks_that_were_there_before_begin_with_what_lies_on_their_nodes(world: World) -> None:
    sizes = (0, 1, 65_520, 65_521, 999_999, SIZE)
    for number, size in enumerate(sizes):
        await world.store(size, stream=bytes([number + 1]) * 16)
    await world.places.meter()
    await world.store(77_777, stream=b"l" * 16)  # not added up yet
    async with world.database.transaction() as tx:
        before = {row["alias"]: row["bytes"] for row in await tx.fetch("SELECT * FROM storage.lender WHERE bytes > 0")}
        await tx.execute("DELETE FROM storage.lender")
        begin = re.search(r"WITH had AS .*", SCHEMA.read_text(), re.DOTALL)
        assert begin is not None
        await tx.execute(begin[0])
        after = {row["alias"]: row["bytes"] for row in await tx.fetch("SELECT * FROM storage.lender WHERE bytes > 0")}
    assert after == before
    assert set(PROFILES) == {"lab", "small", "wide"}, "those that the migration knows"
