"""Keys with which machines let their owner look on, asked for at once: on a real database."""

from __future__ import annotations

import asyncio

import pytest

from fallow.adapters.postgres.database import PostgresDatabase, open_database
from fallow.adapters.postgres.migrations import builtin, migrate
from fallow.adapters.postgres.registry import PostgresRegistryStore
from fallow.domain.errors import TooMuch
from fallow.ports.registry_store import KeyRow, NodeRow
from fallow.services.registry.owners_keys import KEYS_MAX, PROVIDE, OwnersKeys
from tests.unit.test_owners_keys import asked, drawn
from tests.unit.test_registry import NET, node_key

OWNER = b"1" * 20


async def test_machines_that_ask_at_once_get_no_more_than_their_account_may_have_and_the_same_once(
    postgres_dsn: str,
) -> None:
    async with open_database(postgres_dsn, pool_size=3) as database:
        await migrate(database, builtin("registry"))
        store, machine = PostgresRegistryStore(), node_key(1)
        keys = OwnersKeys(NET, database, store)
        async with database.transaction() as tx:
            await store.add_account(tx, OWNER, None, 1)
            await store.add_node(tx, NodeRow(bytes(machine.verify_key), OWNER, "", 1, ""))
        for number in range(KEYS_MAX - 2):
            await keys.add(asked(machine, drawn(number)))
        async with asyncio.TaskGroup() as group, database.transaction() as tx:  # the same, sent once more meanwhile
            await store.hold(tx, OWNER)
            twice = drawn(KEYS_MAX - 2)
            again = group.create_task(keys.add(asked(machine, twice)))
            while not again.done() and not await _waits(database):
                pass
            await store.add_key(tx, KeyRow(twice.key_id, twice.digest, OWNER, (PROVIDE,), "of a machine", None))
        assert again.result().key_id == twice.key_id

        async def is_refused() -> None:
            with pytest.raises(TooMuch):
                await keys.add(asked(machine, drawn(KEYS_MAX)))

        async with asyncio.TaskGroup() as group, database.transaction() as tx:  # of another process
            await store.hold(tx, OWNER)
            late = group.create_task(is_refused())
            while not late.done() and not await _waits(database):
                pass
            other = drawn(KEYS_MAX + 1)
            await store.add_key(tx, KeyRow(other.key_id, other.digest, OWNER, (PROVIDE,), "", None))


async def _waits(database: PostgresDatabase) -> bool:
    async with database.transaction() as tx:
        return bool(await tx.fetch("SELECT FROM pg_locks WHERE NOT granted"))
