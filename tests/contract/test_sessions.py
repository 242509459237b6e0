"""Who is signed in: the same on PostgreSQL and in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from fallow.adapters.memory.sessions import MemorySessionStore
from fallow.adapters.postgres.registry import PostgresRegistryStore
from fallow.adapters.postgres.sessions import PostgresSessionStore
from fallow.ports.database import Database
from fallow.ports.registry_store import KeyRow
from fallow.ports.session_store import ChallengeRow, SessionRow, SessionStore
from tests.contract.conftest import opened

Stores = tuple[Database, SessionStore]
OWNER = b"1" * 20


@pytest.fixture
async def sessions(dsn: str) -> AsyncIterator[Stores]:
    async with opened(dsn, "registry") as database:
        if dsn:
            async with database.transaction() as tx:
                registry = PostgresRegistryStore()
                await registry.add_account(tx, OWNER, None, 1)
                for key_id in ("one", "two"):
                    await registry.add_key(tx, KeyRow(key_id, bytes(32), OWNER, ("buy",), "", None))
        yield database, PostgresSessionStore() if dsn else MemorySessionStore()


def row(number: int, key_id: str = "one") -> SessionRow:
    return SessionRow(bytes([number]) * 32, key_id, number, number)


async def test_a_session_is_kept_until_it_ends(sessions: Stores) -> None:
    database, store = sessions
    async with database.transaction() as tx:
        await store.add(tx, row(1))
        await store.touch(tx, row(1).digest, 9)
        await store.touch(tx, row(2).digest, 9)
    async with database.transaction() as tx:
        assert await store.session(tx, row(1).digest) == row(1)._replace(seen_at=9)
        assert await store.session(tx, row(2).digest) is None
        await store.end(tx, row(1).digest)
        await store.end(tx, row(2).digest)
        assert await store.session(tx, row(1).digest) is None


async def test_old_ones_go_and_so_do_the_oldest_of_too_many(sessions: Stores) -> None:
    database, store = sessions
    async with database.transaction() as tx:
        for number in range(1, 6):
            await store.add(tx, row(number))
        await store.add(tx, row(6, "two"))
        await store.forget(tx, 2)
        await store.thin_out(tx, "one", 2)
        kept = [number for number in range(1, 7) if await store.session(tx, row(number).digest)]
    assert kept == [4, 5, 6]


async def test_a_wallets_sessions_are_its_own(sessions: Stores) -> None:
    database, store = sessions
    mine = [SessionRow(bytes([number]) * 32, None, number, number, OWNER) for number in range(1, 4)]
    async with database.transaction() as tx:
        for one in (*mine, row(4), SessionRow(b"5" * 32, None, 5, 5, b"2" * 20)):
            await store.add(tx, one)
        await store.thin_out(tx, OWNER, 1)
    async with database.transaction() as tx:
        assert await store.session(tx, mine[2].digest) == mine[2]
        assert [await store.session(tx, one.digest) for one in mine[:2]] == [None, None]
        assert await store.session(tx, row(4).digest) == row(4)
        assert (await store.session(tx, b"5" * 32)) is not None


async def test_what_a_wallet_was_asked_is_answered_once(sessions: Stores) -> None:
    database, store = sessions
    asked = [ChallengeRow(bytes([number]) * 16, OWNER, number) for number in range(3)]
    async with database.transaction() as tx:
        for one in asked:
            await store.ask(tx, one)
        await store.forget_challenges(tx, 1)
    async with database.transaction() as tx:
        assert [await store.take_challenge(tx, one.nonce) for one in asked] == [None, *asked[1:]]
        assert [await store.take_challenge(tx, one.nonce) for one in asked] == [None] * 3
