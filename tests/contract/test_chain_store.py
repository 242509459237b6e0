"""How far a chain was read, in memory and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from fallow.adapters.memory.chain_store import MemoryChainStore
from fallow.adapters.memory.database import MemoryDatabase
from fallow.adapters.postgres.chain_store import PostgresChainStore
from fallow.adapters.postgres.database import open_database
from fallow.adapters.postgres.migrations import builtin, migrate
from fallow.ports.chain_store import ChainStore
from fallow.ports.database import Database

Stores = tuple[Database, ChainStore]
CHAIN = 1 << 52


@pytest.fixture
def memory_chains() -> Stores:
    return MemoryDatabase(), MemoryChainStore()


@pytest.fixture
async def postgres_chains(postgres_dsn: str) -> AsyncIterator[Stores]:
    async with open_database(postgres_dsn, pool_size=4) as database:
        await migrate(database, builtin("settle"))
        yield database, PostgresChainStore()


@pytest.fixture(params=["memory", "postgres"])
def chains(request: pytest.FixtureRequest) -> Stores:
    made: Stores = request.getfixturevalue(f"{request.param}_chains")
    return made


async def test_blocks_are_read_on_from_where_the_last_one_was(chains: Stores) -> None:
    database, store = chains
    async with database.transaction() as tx:
        assert await store.next_block(tx, CHAIN, 5) == 5
        assert await store.advance(tx, CHAIN, 5, 9)
    async with database.transaction() as tx:
        assert await store.next_block(tx, CHAIN, 5) == 9
        assert not await store.advance(tx, CHAIN, 5, 9)
        assert await store.next_block(tx, CHAIN + 1, 0) == 0


async def test_of_two_that_read_the_same_blocks_one_takes_them(chains: Stores) -> None:
    database, store = chains
    async with database.transaction() as tx:
        await store.next_block(tx, CHAIN, 5)

    async def read() -> bool:
        async with database.transaction() as tx:
            return await store.advance(tx, CHAIN, 5, 9)

    assert sorted(await asyncio.gather(read(), read())) == [False, True]


async def test_what_is_not_committed_was_not_read(chains: Stores) -> None:
    database, store = chains

    async def read_and_die() -> None:
        async with database.transaction() as tx:
            await store.next_block(tx, CHAIN, 5)
            await store.advance(tx, CHAIN, 5, 9)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await read_and_die()
    async with database.transaction() as tx:
        assert await store.next_block(tx, CHAIN, 5) == 5
