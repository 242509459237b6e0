"""The network's outbox, in memory and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import msgspec
import pytest

from fallow.adapters.memory.decisions import MemoryDecisionStore
from fallow.adapters.postgres.decisions import PostgresDecisionStore
from fallow.domain.decisions import Decision
from fallow.domain.facts import LeaseSettled, Moved, NodeShown
from fallow.domain.resources import Resources
from fallow.ports.database import Database
from fallow.ports.decisions import DecisionStore
from tests.contract.conftest import opened

Stores = tuple[Database, DecisionStore]


@pytest.fixture
async def outbox(dsn: str) -> AsyncIterator[Stores]:
    async with opened(dsn, "outbox") as database:
        yield database, PostgresDecisionStore() if dsn else MemoryDecisionStore()


def shown(number: int) -> Decision:
    return Decision(number, NodeShown(node=number.to_bytes(32, "big"), what="confirmed", lease=bytes(16)))


SETTLED = Decision(
    7,
    LeaseSettled(
        vertical="compute",
        lease=bytes(16),
        node=bytes(32),
        payee=bytes(20),
        payer=b"b" * 20,
        resources=Resources(cpu_milli=1000, memory_mib=128),
        price_microusd_per_hour=36_000,
        spot=True,
        checks=False,
        window=1,
        charged_ms=1 << 40,
        moved=[Moved(credit=2, income=1 << 61, fee=3)],
        final=False,
    ),
)


async def add(outbox: Stores, *decisions: Decision) -> None:
    database, store = outbox
    async with database.transaction() as tx:
        await store.add(tx, decisions)


async def take(outbox: Stores, limit: int = 100) -> list[Decision]:
    database, store = outbox
    async with database.transaction() as tx:
        return await store.take(tx, limit)


async def test_decisions_come_out_once_in_order_as_they_went_in(outbox: Stores) -> None:
    await add(outbox, SETTLED, *map(shown, range(5)))
    await add(outbox)
    assert await take(outbox, 2) == [SETTLED, shown(0)]
    await add(outbox, shown(9))
    assert await take(outbox) == [*map(shown, range(1, 5)), shown(9)]
    assert await take(outbox) == []


async def test_what_a_failed_transaction_added_or_took_is_as_before(outbox: Stores) -> None:
    database, store = outbox
    await add(outbox, shown(1))
    with suppress(ZeroDivisionError):
        async with database.transaction() as tx:
            await store.add(tx, [shown(2)])
            assert await store.take(tx, 10) == [shown(1), shown(2)]
            raise ZeroDivisionError
    assert await take(outbox) == [shown(1)]


async def test_two_who_take_at_once_take_each_decision_once(outbox: Stores) -> None:
    await add(outbox, *map(shown, range(40)))
    taken = await asyncio.gather(*(take(outbox, 10) for _ in range(4)))
    assert sorted(at for some in taken for at, _ in some) == list(range(40))


async def test_those_of_a_kind_are_looked_at_and_stay(outbox: Stores) -> None:
    database, store = outbox
    await add(outbox, shown(1), SETTLED, shown(2), shown(3))
    async with database.transaction() as tx:
        first = await store.pending(tx, NodeShown.kind, 0, 2)
        assert [one for _, one in first] == [shown(1), shown(2)]
        assert [one for _, one in await store.pending(tx, NodeShown.kind, first[-1][0], 9)] == [shown(3)]
    assert await take(outbox) == [shown(1), SETTLED, shown(2), shown(3)]


async def test_what_could_not_be_read_again_stops_whoever_decides_it_and_nobody_else(outbox: Stores) -> None:
    database, store = outbox
    unreadable = Decision(1, NodeShown(node=b"short", what="confirmed"))
    with pytest.raises(msgspec.ValidationError):
        async with database.transaction() as tx:
            await store.add(tx, [shown(1), unreadable])
    async with database.transaction() as tx:
        await store.add(tx, [shown(2)])
    async with database.transaction() as tx:
        assert await store.take(tx, 10) == [shown(2)]
