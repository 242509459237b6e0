"""Which epochs' earnings have left the ledger, and what audits found: the same on PostgreSQL and in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from fallow.adapters.memory.audits import MemoryAuditStore
from fallow.adapters.memory.payouts import MemoryPayoutStore
from fallow.adapters.postgres.audits import PostgresAuditStore
from fallow.adapters.postgres.payouts import PostgresPayoutStore
from fallow.domain.views.audits import AuditView, DifferenceView
from fallow.ports.audit_store import KEPT, AuditStore
from fallow.ports.database import Database
from fallow.ports.payout_store import PayoutStore
from tests.contract.conftest import opened

Stores = tuple[Database, PayoutStore, AuditStore]


@pytest.fixture
async def payouts(dsn: str) -> AsyncIterator[Stores]:
    async with opened(dsn, "settle") as database:
        yield (
            (database, PostgresPayoutStore(), PostgresAuditStore())
            if dsn
            else (database, MemoryPayoutStore(), MemoryAuditStore())
        )


async def test_an_epoch_is_noted_once_and_the_latest_counts(payouts: Stores) -> None:
    database, store, _ = payouts
    async with database.transaction() as tx:
        assert await store.last(tx) is None
        await store.add(tx, 8)
        await store.add(tx, 9)
        await store.add(tx, 8)
    async with database.transaction() as tx:
        assert await store.last(tx) == 9


async def test_the_audit_that_began_last_is_shown_as_it_was(payouts: Stores) -> None:
    database, _, store = payouts
    one = DifferenceView(code="money.short", subject="distributor", here="2", there="1", detail="")
    async with database.transaction() as tx:
        assert await store.latest(tx) is None
        for at in [*range(KEPT + 5), 3]:
            await store.add(tx, AuditView(began_at=at, ended_at=at + 1, ok=False, found=1, differences=[one]))
    async with database.transaction() as tx:
        found = await store.latest(tx)
    assert found == AuditView(began_at=KEPT + 4, ended_at=KEPT + 5, ok=False, found=1, differences=[one])
