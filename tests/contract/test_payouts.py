"""Which epochs' earnings have left the ledger: the same on PostgreSQL and in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from fallow.adapters.memory.database import MemoryDatabase
from fallow.adapters.memory.payouts import MemoryPayoutStore
from fallow.adapters.postgres.database import open_database
from fallow.adapters.postgres.migrations import builtin, migrate
from fallow.adapters.postgres.payouts import PostgresPayoutStore
from fallow.ports.database import Database
from fallow.ports.payout_store import PayoutStore

Stores = tuple[Database, PayoutStore]


@pytest.fixture
async def postgres_payouts(postgres_dsn: str) -> AsyncIterator[Stores]:
    async with open_database(postgres_dsn, pool_size=2) as database:
        await migrate(database, builtin("settle"))
        yield database, PostgresPayoutStore()


@pytest.fixture(params=["memory", "postgres"])
def payouts(request: pytest.FixtureRequest) -> Stores:
    if request.param == "memory":
        return MemoryDatabase(), MemoryPayoutStore()
    made: Stores = request.getfixturevalue("postgres_payouts")
    return made


async def test_an_epoch_is_noted_once_and_the_latest_counts(payouts: Stores) -> None:
    database, store = payouts
    async with database.transaction() as tx:
        assert await store.last(tx) is None
        await store.add(tx, 8)
        await store.add(tx, 9)
        await store.add(tx, 8)
    async with database.transaction() as tx:
        assert await store.last(tx) == 9
