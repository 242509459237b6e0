"""Burns that wait and the price that is known, in memory and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from fallow.adapters.memory.burn_store import MemoryBurnStore
from fallow.adapters.postgres.burn_store import PostgresBurnStore
from fallow.domain.rewards.oracle import Oracle, Quote
from fallow.ports.burn_store import Burn, BurnStore
from fallow.ports.database import Database
from tests.contract.conftest import opened
from tests.network import BOUND

Stores = tuple[Database, BurnStore]
BURNS = [Burn(1 << 52, bytes(32), place, bytes(20), 10**27 + place) for place in range(3)]


@pytest.fixture
async def burns(dsn: str) -> AsyncIterator[Stores]:
    async with opened(dsn, "settle") as database:
        yield database, PostgresBurnStore() if dsn else MemoryBurnStore()


async def test_those_that_wait_longest_come_first_and_once(burns: Stores) -> None:
    database, store = burns
    async with database.transaction() as tx:
        await store.wait(tx, BURNS)
    async with database.transaction() as tx:
        assert await store.take(tx, 2) == BURNS[:2]
        assert await store.count(tx) == 1
    async with database.transaction() as tx:
        assert await store.take(tx, 2) == BURNS[2:]
        assert await store.take(tx, 2) == []


async def test_a_burn_waits_once(burns: Stores) -> None:
    database, store = burns

    for some in (BURNS[:1], BURNS):
        async with database.transaction() as tx:
            await store.wait(tx, some)
    async with database.transaction() as tx:
        assert await store.take(tx, 9) == BURNS


async def test_what_is_not_committed_still_waits(burns: Stores) -> None:
    database, store = burns

    async def take_and_die() -> None:
        async with database.transaction() as tx:
            await store.take(tx, 9)
            raise RuntimeError

    async with database.transaction() as tx:
        await store.wait(tx, BURNS)
    with pytest.raises(RuntimeError):
        await take_and_die()
    async with database.transaction() as tx:
        assert await store.take(tx, 9) == BURNS


async def test_the_price_is_kept_and_changed_by_one_at_a_time(burns: Stores) -> None:
    database, store = burns

    async def tell(feed: str) -> None:
        async with database.transaction() as tx:
            oracle = await store.oracle(tx)
            await store.save(tx, Oracle({**oracle.quotes, feed: Quote(feed, 5, 6, 7)}, oracle.held + 1))

    async with database.transaction() as tx:
        assert await store.oracle(tx) == Oracle()
    await asyncio.gather(tell("one"), tell("other"))
    async with database.transaction() as tx:
        quotes = {feed: Quote(feed, 5, 6, 7) for feed in ("one", "other")}
        assert await store.oracle(tx) == Oracle(quotes, 2)


async def test_who_looks_at_the_price_sees_what_was_saved(burns: Stores) -> None:
    database, store = burns
    known = Oracle({"feed": Quote("feed", 5, 6, 7)}, 8)
    async with database.transaction() as tx:
        assert await store.look(tx) == Oracle()
        await store.oracle(tx)
        await store.save(tx, known)
    async with database.transaction() as tx:
        assert await store.look(tx) == known


@pytest.mark.parametrize("dsn", ["postgres"], indirect=True)
async def test_who_looks_at_the_price_waits_for_nobody(burns: Stores) -> None:
    """The price is public: whoever asks for it often would otherwise keep feeds and burns waiting, one by one."""
    database, store = burns
    async with database.transaction() as changing:
        known = await store.oracle(changing)
        async with asyncio.timeout(BOUND), database.transaction() as tx:
            assert await store.look(tx) == known
    async with database.transaction() as looking:
        await store.look(looking)
        async with asyncio.timeout(BOUND), database.transaction() as tx:
            await store.save(tx, await store.oracle(tx))
