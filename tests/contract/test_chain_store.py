"""How far a chain was read, in memory and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from fallow.adapters.memory.chain_store import MemoryChainStore
from fallow.adapters.postgres.chain_store import PostgresChainStore
from fallow.ports.chain_store import ChainStore
from fallow.ports.database import Database
from tests.contract.conftest import opened

Stores = tuple[Database, ChainStore]
CHAIN = 1 << 52


@pytest.fixture
async def chains(dsn: str) -> AsyncIterator[Stores]:
    async with opened(dsn, "settle") as database:
        yield database, PostgresChainStore() if dsn else MemoryChainStore()


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
