"""The whole database of a network goes back to an earlier time, as a restore from a backup does it; nodes do not."""

# ruff: noqa: D102 - the names of the steps say what they do

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from tests.engines import Engines
from tests.places_world import World

_TABLES = """
SELECT format('%I.%I', schemaname, tablename) AS name, format('kept.%I', schemaname || '.' || tablename) AS kept
FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema', 'kept')
"""
_KEEP_NUMBERS = """
CREATE TABLE kept.numbers AS
SELECT format('%I.%I', schemaname, sequencename) AS name, coalesce(last_value, start_value) AS value,
    last_value IS NOT NULL AS used
FROM pg_sequences
"""


class Rolled:
    """What the network knew, to come back to."""

    def __init__(self, world: World, engines: Engines) -> None:
        self.world = world
        self._engines = engines

    async def keep(self) -> None:
        await self.world.places.recovery.look()
        async with self._superuser() as connection:
            await connection.execute("DROP SCHEMA IF EXISTS kept CASCADE; CREATE SCHEMA kept")
            await connection.execute(_KEEP_NUMBERS)
            for table in await connection.fetch(_TABLES):
                await connection.execute(f"CREATE TABLE {table['kept']} AS TABLE {table['name']}")

    async def back(self) -> None:
        """Have it as it was, on another timeline, and a process that has just started."""
        async with self._superuser() as connection:
            tables = await connection.fetch(_TABLES)
            await connection.execute(f"TRUNCATE {', '.join(table['name'] for table in tables)}")
            for table in tables:
                await connection.execute(
                    f"INSERT INTO {table['name']} OVERRIDING SYSTEM VALUE SELECT * FROM {table['kept']}"  # noqa: S608 - a test's
                )
            await connection.execute("SELECT setval(name::regclass, value, used) FROM kept.numbers")
            await connection.execute("UPDATE storage.timeline SET name = 'another'")
        self.world.places = self.world.process()
        await self.world.tell()
        await self.world.places.recovery.look()

    @asynccontextmanager
    async def _superuser(self) -> AsyncIterator[asyncpg.Connection]:
        """Who may change what is never changed: rows that are only added, and rows before those that they refer to."""
        async with self.world.database.transaction() as tx:
            (row,) = await tx.fetch("SELECT current_database() AS name")
        connection = await asyncpg.connect(self._engines.dsn(row["name"], role="postgres"))
        try:
            async with connection.transaction():
                await connection.execute("SET LOCAL session_replication_role = replica")
                yield connection
        finally:
            await connection.close()
