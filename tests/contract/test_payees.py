"""To whom accounts are paid: the same on PostgreSQL and in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from fallow.adapters.memory.payees import MemoryPayeeStore
from fallow.adapters.postgres.payees import PostgresPayeeStore
from fallow.adapters.postgres.registry import PostgresRegistryStore
from fallow.domain.payees import Payee
from fallow.ports.database import Database
from fallow.ports.payees import PayeeStore
from tests.contract.conftest import opened

Stores = tuple[Database, PayeeStore]
ONE, TWO = b"1" * 20, b"2" * 20


@pytest.fixture
async def payees(dsn: str) -> AsyncIterator[Stores]:
    async with opened(dsn, "registry") as database:
        if dsn:
            async with database.transaction() as tx:
                for account in (ONE, TWO):
                    await PostgresRegistryStore().add_account(tx, account, None, 1)
        yield database, PostgresPayeeStore() if dsn else MemoryPayeeStore()


async def test_the_latest_word_of_an_account_stays(payees: Stores) -> None:
    database, store = payees
    first = Payee(ONE, ONE, TWO, 1 << 45, 100)
    async with database.transaction() as tx:
        assert await store.payee(tx, ONE) is None
        assert await store.put(tx, first, 0, 0)
    async with database.transaction() as tx:
        assert not await store.put(tx, first._replace(pending=ONE), 0, 0)
        assert not await store.put(tx, first._replace(signed_at_s=99), 0, 0)
        assert await store.payee(tx, ONE) == first
        assert await store.put(tx, Payee(ONE, TWO, signed_at_s=101), 0, 0)
        assert await store.payee(tx, ONE) == Payee(ONE, TWO, signed_at_s=101)
        assert await store.payee(tx, TWO) is None


async def test_words_are_counted_one_by_one(payees: Stores) -> None:
    """Of two that come at once, one would not be counted."""
    database, store = payees
    async with database.transaction() as tx:
        assert await store.spent(tx, ONE) == 0
        assert await store.put(tx, Payee(ONE, TWO, signed_at_s=1), 0, 1 << 45)
        assert not await store.put(tx, Payee(ONE, TWO, signed_at_s=2), 0, 1 << 46)
        assert await store.spent(tx, ONE) == 1 << 45
        assert await store.put(tx, Payee(ONE, TWO, signed_at_s=3), 1 << 45, 1 << 46)
        assert await store.spent(tx, ONE) == 1 << 46
