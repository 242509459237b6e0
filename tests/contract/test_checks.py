"""Commitments and draws: the same on PostgreSQL and in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from fallow.adapters.memory.checks import MemoryCheckStore
from fallow.adapters.postgres.checks import PostgresCheckStore
from fallow.domain.canaries import Known
from fallow.domain.draws import Draw, Purpose
from fallow.domain.jobs import Job, Needs
from fallow.domain.orders import Order
from fallow.domain.reruns import Rerun
from fallow.domain.rollcall import Call, Said
from fallow.ports.checks import Alone, CheckStore, PartRow, SeedRow
from fallow.ports.database import Database
from tests.contract.conftest import opened

NODE = b"n" * 32


Place = tuple[Database, CheckStore]


@pytest.fixture
async def place(dsn: str) -> AsyncIterator[Place]:
    async with opened(dsn, "checks") as database:
        yield database, PostgresCheckStore() if dsn else MemoryCheckStore()


def drawn(lease: int, purpose: Purpose = Purpose.CHECK, *, hit: bool = True) -> Draw:
    return Draw(1, bytes([lease]) * 16, purpose, NODE, 1 << 50, 1 << 40, hit)


async def test_a_commitment_stays_and_its_epoch_opens_and_closes(place: Place) -> None:
    database, store = place
    async with database.transaction() as tx:
        assert await store.seeds(tx, 10) == []
        assert await store.seed(tx, 1) is None
        for number in (1, 2, 3):
            await store.put_seed(tx, SeedRow(number, bytes([number]), None, None))
        await store.put_seed(tx, SeedRow(2, b"another", 5, 9))
    async with database.transaction() as tx:
        assert await store.seed(tx, 2) == SeedRow(2, b"\2", 5, 9)
        assert [row.number for row in await store.seeds(tx, 2)] == [3, 2]


async def test_a_pledge_and_the_part_it_is_of_stay(place: Place) -> None:
    database, store = place
    first, second = PartRow(3, b"a" * 20, b"pledge", None), PartRow(3, b"b" * 20, b"other", None)
    async with database.transaction() as tx:
        assert await store.lock_seed(tx, 3) is None
        await store.put_seed(tx, SeedRow(3, b"c", None, None))
        assert await store.lock_seed(tx, 3) == SeedRow(3, b"c", None, None)
        for row in (second, first, first._replace(number=4), first._replace(pledge=b"changed")):
            await store.put_part(tx, row)
    async with database.transaction() as tx:
        assert await store.parts(tx, 3) == [first, second]
        for part in (b"part", b"another", None):
            await store.put_part(tx, first._replace(part=part))
    async with database.transaction() as tx:
        assert await store.parts(tx, 3) == [first._replace(part=b"part"), second]


async def test_a_part_waits_for_whoever_opens_its_epoch(place: Place) -> None:
    database, store = place
    async with database.transaction() as tx:
        await store.put_seed(tx, SeedRow(3, b"c", None, None))

    async def take() -> SeedRow | None:
        async with database.transaction() as tx:
            return await store.lock_seed(tx, 3)

    async with asyncio.TaskGroup() as tasks, database.transaction() as tx:
        await store.put_seed(tx, SeedRow(3, b"c", 7, None))
        taking = tasks.create_task(take())
        for _ in range(30):  # as many round trips as it takes to come by without waiting
            await asyncio.sleep(0)
            assert await store.parts(tx, 3) == []
        assert not taking.done()
    assert taking.result() == SeedRow(3, b"c", 7, None)


def known(job: int, at: int, uses: int = 0) -> Known:
    order = Order(id=f"{job:032x}", vertical="compute", work={"text": "\x00 ✓"}, items=["ab" * 32])
    made = Job(order=order, account=b"a" * 20, needs=Needs(), created_at=1, planted=True)
    return Known(job=made, item=7, says=(True, "", None), at=at, accounts=(b"b" * 20,), uses=uses)


async def test_what_is_known_is_kept_oldest_first_and_goes(place: Place) -> None:
    database, store = place
    entries = [known(3, 30), known(1, 10), known(2, 10)]
    async with database.transaction() as tx:
        await store.put_known(tx, {})
        await store.put_known(tx, {entry.key: entry for entry in entries})
    async with database.transaction() as tx:
        assert await store.known(tx) == [entries[1], entries[2], entries[0]]
        await store.put_known(tx, {entries[1].key: None, known(9, 1).key: None, entries[2].key: known(2, 10, uses=4)})
    async with database.transaction() as tx:
        assert await store.known(tx) == [known(2, 10, uses=4), entries[0]]


async def test_what_re_runs_have_shown_is_kept_once_and_read_the_latest_first(place: Place) -> None:
    database, store = place
    made = [
        Rerun(bytes([n]) * 16, b"a" * 20, f"p{n}", (NODE, b"m" * 32), (b"o" * 20, b"q" * 20), bool(n % 2), at)
        for n, at in ((1, 30), (2, 10), (3, 20))
    ]
    async with database.transaction() as tx:
        await store.add_reruns(tx, [])
        await store.add_reruns(tx, made)
        await store.add_reruns(tx, [made[0]._replace(same=False)])
    async with database.transaction() as tx:
        assert await store.reruns(tx, 9) == [made[0], made[2], made[1]]
        assert await store.reruns(tx, 2) == [made[0], made[2]]


async def test_a_draw_stays_and_is_read_page_by_page(place: Place) -> None:
    database, store = place
    made = [drawn(3), drawn(1, Purpose.CHECK), drawn(1, Purpose.CANARY, hit=False), drawn(2)]
    async with database.transaction() as tx:
        await store.put_seed(tx, SeedRow(1, b"", 1, None))
        await store.add(tx, [])
        await store.add(tx, made)
        await store.add(tx, [drawn(3, hit=False)])
    async with database.transaction() as tx:
        first = await store.draws(tx, 1, (b"", ""), 3)
        assert first == [made[2], made[1], made[3]]
        assert await store.draws(tx, 1, (first[-1].lease, first[-1].purpose.value), 3) == [made[0]]
        assert await store.draws(tx, 2, (b"", ""), 3) == []


def roll_call(number: int, at: int, *, found: bool = False) -> Call:
    said = Said(node=NODE, cpu_milli=500, reason="owner.paused", units=1 << 40, elapsed_ms=7, alone=9, answer=b"\0\xff")
    return Call(
        id=bytes([number]) * 32,
        at=at,
        kind="group",
        said=(said, Said(node=NODE[::-1], cpu_milli=1)),
        found=((NODE, "capacity.shared"),) if found else (),
    )


async def test_roll_calls_are_kept_for_a_while_and_those_that_found_somebody_for_good(place: Place) -> None:
    database, store = place
    first, second, third = roll_call(1, 10, found=True), roll_call(2, 20), roll_call(3, 20)
    async with database.transaction() as tx:
        assert await store.calls(tx, 10, found=False) == []
        for call in (third, first, second, roll_call(1, 99)):  # an id that is there stays as it is
            await store.add_call(tx, call, 0)
    async with database.transaction() as tx:
        assert await store.calls(tx, 10, found=False) == [second, third, first]
        assert await store.calls(tx, 1, found=False) == [second]
        assert await store.calls(tx, 10, found=True) == [first]
        latest = roll_call(4, 30)
        await store.add_call(tx, latest, 21)
    async with database.transaction() as tx:
        assert await store.calls(tx, 10, found=False) == [latest, first]


async def test_how_fast_nodes_were_alone_is_what_was_written_last(place: Place) -> None:
    database, store = place
    async with database.transaction() as tx:
        assert await store.alone(tx) == {}
        await store.put_alone(tx, NODE, Alone(5, 1))
        await store.put_alone(tx, b"m" * 32, Alone(1 << 50, 1 << 50))
        await store.put_alone(tx, NODE, Alone(0, 2))
    async with database.transaction() as tx:
        assert await store.alone(tx) == {NODE: Alone(0, 2), b"m" * 32: Alone(1 << 50, 1 << 50)}
