"""Delegations, signed orders and receipts: the same scenarios on PostgreSQL and in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

import msgspec
import pytest

from fallow.adapters.memory.delegations import MemoryDelegationStore
from fallow.adapters.memory.registry import MemoryRegistryStore
from fallow.adapters.postgres.delegations import PostgresDelegationStore
from fallow.adapters.postgres.registry import PostgresRegistryStore
from fallow.domain.delegations import Delegation
from fallow.domain.errors import Conflict
from fallow.ports.database import Database
from fallow.ports.delegations import DelegationStore, OrderSignature, ReceiptRow
from fallow.ports.registry_store import RegistryStore
from tests.contract.conftest import opened

ALICE, BOB = b"a" * 20, b"b" * 20
LEASES = [bytes([number]) * 16 for number in range(4)]


class Parts(NamedTuple):
    """A database, and the stores on it."""

    database: Database
    registry: RegistryStore
    store: DelegationStore


def delegation(number: int, account: bytes = ALICE, **changes: int) -> Delegation:
    made = Delegation(account=account, key=bytes([number]) * 32, issued_at=number, expires_at=100, signature=b"s" * 65)
    return msgspec.structs.replace(made, **changes)


@pytest.fixture
async def parts(dsn: str) -> AsyncIterator[Parts]:
    async with opened(dsn, "registry") as database:
        yield await prepared(
            Parts(database, PostgresRegistryStore(), PostgresDelegationStore())
            if dsn
            else Parts(database, MemoryRegistryStore(), MemoryDelegationStore())
        )


async def prepared(parts: Parts) -> Parts:
    async with parts.database.transaction() as tx:
        for account in (ALICE, BOB):
            await parts.registry.add_account(tx, account, None, 0)
        for each in (delegation(1), delegation(2), delegation(3, BOB), delegation(4, expires_at=50)):
            await parts.store.add_delegation(tx, each)
    return parts


async def test_delegations(parts: Parts) -> None:
    database, _, store = parts
    async with database.transaction() as tx:
        assert await store.delegation(tx, b"\x02" * 32) == delegation(2)
        assert await store.delegation(tx, b"\x09" * 32) is None
        assert await store.delegations(tx, ALICE, 10) == [delegation(4, expires_at=50), delegation(2), delegation(1)]
        assert await store.delegations(tx, ALICE, 1) == [delegation(4, expires_at=50)]
        assert [await store.live(tx, ALICE, now) for now in (49, 50, 99, 100)] == [3, 2, 2, 0]
        for at in (7, 8):
            await store.revoke(tx, b"\x02" * 32, at)
        assert await store.delegation(tx, b"\x02" * 32) == delegation(2, revoked_at=7)
        assert await store.live(tx, ALICE, 60) == 1
    with pytest.raises(Conflict):
        async with database.transaction() as tx:
            await store.add_delegation(tx, delegation(1, BOB))


async def test_the_first_signed_order_of_an_account_stays(parts: Parts) -> None:
    database, _, store = parts
    first = OrderSignature(ALICE, "1" * 32, b"\x01" * 32, b"s" * 64, b"\0body")
    async with database.transaction() as tx:
        assert await store.add_order(tx, first) == first
        assert await store.add_order(tx, first._replace(body=b"other")) == first
        foreign = first._replace(account=BOB, key=b"\x03" * 32)
        assert await store.add_order(tx, foreign) == foreign


async def test_the_first_receipt_of_a_lease_stays(parts: Parts) -> None:
    database, _, store = parts
    leaves = [b"leaf 0", b"leaf 1"]
    first = [ReceiptRow(LEASES[place], ALICE, b"\x01" * 32, b"s" * 64, leaves, place) for place in range(2)]
    second = [row._replace(lease=LEASES[row.place + 1], signature=b"t" * 64) for row in first]
    async with database.transaction() as tx:
        for rows in (first, first, second, []):
            await store.add_receipts(tx, rows)
        assert await store.mutual(tx, LEASES) == frozenset(LEASES[:3])
        assert await store.mutual(tx, []) == frozenset()
