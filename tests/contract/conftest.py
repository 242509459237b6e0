"""The services' stores on both databases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

import pytest

from fallow.adapters.memory.database import MemoryDatabase
from fallow.adapters.memory.ingest import MemoryIngestStore
from fallow.adapters.memory.market import MemoryMarketStore
from fallow.adapters.memory.registry import MemoryRegistryStore
from fallow.adapters.postgres.database import open_database
from fallow.adapters.postgres.ingest import PostgresIngestStore
from fallow.adapters.postgres.market import PostgresMarketStore
from fallow.adapters.postgres.migrations import builtin, migrate
from fallow.adapters.postgres.registry import PostgresRegistryStore
from fallow.ports.database import Database, Transaction
from fallow.ports.ingest_store import IngestStore
from fallow.ports.market_store import MarketStore
from fallow.ports.registry_store import RegistryStore


class Stores(NamedTuple):
    """The three stores, and the database that they hang on."""

    database: Database
    ingest: IngestStore
    registry: RegistryStore
    market: MarketStore


class Broken(Exception):
    """What ends a transaction half-way."""


@asynccontextmanager
async def rolled_back(stores: Stores) -> AsyncIterator[Transaction]:
    """A transaction that does not commit."""
    with suppress(Broken):
        async with stores.database.transaction() as tx:
            yield tx
            raise Broken


@pytest.fixture(params=["memory", "postgres"])
def dsn(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database, or "", which is one in memory."""
    return "" if request.param == "memory" else str(request.getfixturevalue("postgres_dsn"))


@asynccontextmanager
async def opened(dsn: str, *schemas: str) -> AsyncIterator[Database]:
    """What a `dsn` stands for, with schemas of the network's own; memory needs none."""
    if not dsn:
        yield MemoryDatabase()
        return
    async with open_database(dsn, pool_size=4) as database:
        await migrate(database, *map(builtin, schemas))
        yield database


@pytest.fixture
def memory_stores() -> Stores:
    return Stores(MemoryDatabase(), MemoryIngestStore(), MemoryRegistryStore(), MemoryMarketStore())


@pytest.fixture
async def postgres_stores(postgres_dsn: str) -> AsyncIterator[Stores]:
    async with open_database(postgres_dsn, pool_size=10) as database:
        await migrate(database, *(builtin(schema) for schema in ("registry", "ingest", "market")))
        yield Stores(database, PostgresIngestStore(), PostgresRegistryStore(), PostgresMarketStore())


@pytest.fixture(params=["memory", "postgres"])
def stores(request: pytest.FixtureRequest) -> Stores:
    made: Stores = request.getfixturevalue(f"{request.param}_stores")
    return made
