"""Bugs that are planted in the statements that keep money: the simulation on a real PostgreSQL finds each."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg
import msgspec
import pytest

from fallow.adapters.postgres import database as postgres
from fallow.adapters.postgres.database import PostgresDatabase, open_database
from fallow.adapters.postgres.ledger import PostgresLedger
from fallow.adapters.postgres.migrations import builtin, migrate
from fallow.domain.billing import HOUR_MS
from fallow.domain.chart import NETWORK, Kind
from fallow.domain.errors import FallowError, Unavailable
from fallow.domain.leases import Lease
from fallow.domain.ledger import DEBITS_MUST_NOT_EXCEED_CREDITS, PENDING, POST_PENDING, account, transfer
from fallow.services.market.money import Misposted
from tests.engines import Engines, fresh_database
from tests.sim.sql_world import GRANT, SqlWorld

SEEDS = 4
SCHEMAS = ("ledger", "registry", "ingest", "market", "checks", "outbox")

PLANTED = {
    "a settled lease is not written over the open one": (
        "ON CONFLICT (id) DO UPDATE SET state = EXCLUDED.state, doc = EXCLUDED.doc",
        "ON CONFLICT (id) DO NOTHING",
    ),
    "how far the log was applied is forgotten": (
        "UPDATE market.leader SET cursor = $1, cursor_records = $2",
        "UPDATE market.leader SET cursor = least(cursor, $1), cursor_records = least(cursor_records, $2)",
    ),
    "what a meter showed is not written": (
        "DO UPDATE SET price_ms = EXCLUDED.price_ms",
        "DO UPDATE SET price_ms = market.meter.price_ms",
    ),
    "a reservation is not taken from what can be spent": (
        "SET debits_pending = new.debits_pending,",
        "SET debits_pending = a.debits_pending,",
    ),
    "a market that another one replaced may write": (
        "SELECT 1 FROM market.leader WHERE term = $1 FOR UPDATE",
        "SELECT 1 FROM market.leader WHERE term >= $1 FOR UPDATE",
    ),
}
"""A statement's part, and what stands there instead."""


class Found(Exception):
    """Something does not hold."""


async def test_all_ends_well_on_postgres(engines: Engines) -> None:
    for seed in range(SEEDS):
        await run(engines, seed)


@pytest.mark.parametrize("name", PLANTED)
async def test_a_bug_in_sql_is_found(engines: Engines, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    uses = plant(monkeypatch, *PLANTED[name])
    found: list[str] = []
    for seed in range(SEEDS):
        try:
            await run(engines, seed)
        except (Found, AssertionError, FallowError, Misposted, asyncpg.PostgresError) as error:
            found.append(f"seed {seed}: {error}")
            break
    assert uses["mutated"]
    assert found
    print(f"{name}: {found[0].splitlines()[0][:200]}")


async def run(engines: Engines, seed: int) -> None:
    """Simulate one seed in a database of its own, and add everything up."""
    async with opened(engines) as database:
        await SqlWorld(database, seed).live()
        await check(database)


@asynccontextmanager
async def opened(engines: Engines) -> AsyncIterator[PostgresDatabase]:
    async with fresh_database(engines) as dsn, open_database(dsn, pool_size=4) as database:
        await migrate(database, *(builtin(schema) for schema in SCHEMAS))
        yield database


def plant(patch: pytest.MonkeyPatch, right: str, wrong: str) -> Counter[str]:
    """Have the database run statements that hold `right` with `wrong` instead; counts how often."""
    uses: Counter[str] = Counter()

    def mutated(query: str) -> str:
        uses["mutated"] += right in query
        return query.replace(right, wrong)

    for method in ("fetch", "execute"):
        original = getattr(postgres.PostgresTransaction, method)

        async def changed(self: Any, query: str, *args: object, original: Any = original) -> Any:
            return await original(self, mutated(query), *args)

        patch.setattr(postgres.PostgresTransaction, method, changed)
    return uses


# What must hold, by statements of its own


async def check(database: PostgresDatabase) -> None:
    """Compare leases, meters and ledger.

    Raises:
        Found: they contradict each other.
    """
    async with database.transaction() as tx:
        audit = await PostgresLedger().check(tx)
        leases = [msgspec.json.decode(row["doc"], type=Lease) for row in await tx.fetch("SELECT doc FROM market.lease")]
        moved = await tx.fetch("SELECT ref, flags, code, amount::text AS amount FROM ledger.transfer")
        pending = await tx.fetch("SELECT id FROM ledger.account WHERE debits_pending > 0 OR credits_pending > 0")
        refused = await tx.fetch("SELECT code FROM market.refusal")
    require(audit.ok, "the ledger adds up", audit.faults)
    require(not pending, "nothing stays reserved", pending)
    require(leases, "somebody worked")
    check_paid(leases, moved)
    check_prices(leases)
    check_reserve(leases, moved)
    never = {"lease.accepted_twice", "window.other"}
    require(
        not never & {row["code"] for row in refused}, "no record is applied again", [row["code"] for row in refused]
    )


def check_paid(leases: Sequence[Lease], moved: Sequence[Any]) -> None:
    """What left the payers and what reached the others for a lease is what the lease owes."""
    left: Counter[bytes] = Counter()
    arrived: Counter[bytes] = Counter()
    for row in moved:
        if row["flags"] & POST_PENDING:
            left[row["ref"]] += int(row["amount"])
        elif row["code"] == Kind.RETURNED:
            left[row["ref"]] -= int(row["amount"])
        elif row["code"] in {Kind.INCOME, Kind.FEE, Kind.RESERVE} and not row["flags"] & PENDING:
            arrived[row["ref"]] += int(row["amount"])
    for lease in leases:
        paid = left[lease.id], arrived[lease.id]
        require(paid == (lease.owed_microusd,) * 2, "paid is what is owed", lease, paid)
    bought = sum(lease.owed_microusd for lease in leases if lease.payer != NETWORK)
    require(0 < bought < GRANT, "the buyer can pay", bought)


def check_prices(leases: Sequence[Lease]) -> None:
    """What is owed is the price of all use of a payer and payee, floored once."""
    price_ms: Counter[tuple[bytes, bytes, int]] = Counter()
    owed: Counter[tuple[bytes, bytes, int]] = Counter()
    for lease in leases:
        key = lease.payer, lease.payee, lease.price_version
        price_ms[key] += lease.price_microusd_per_hour * lease.used_ms
        owed[key] += lease.owed_microusd
    for key, total in price_ms.items():
        require(owed[key] == total // HOUR_MS, "the price of use, floored once", key, owed[key], total // HOUR_MS)


def check_reserve(leases: Sequence[Lease], moved: Sequence[Any]) -> None:
    """The reserve gave what leases say, and on account of nobody more than the fee that his use has paid."""
    payee = {lease.id: lease.payee for lease in leases}
    bought = {lease.id for lease in leases if lease.payer != NETWORK}
    lost, fees = Counter[bytes](), Counter[bytes]()
    for row in moved:
        if row["code"] in {Kind.LOST, Kind.FEE}:
            (lost if row["code"] == Kind.LOST else fees)[row["ref"]] += int(row["amount"])
    for lease in leases:
        require(lease.made_good_microusd == lost[lease.id], "the reserve pays once", lease, lost[lease.id])
    for account_id in set(payee.values()):
        gave = sum(amount for ref, amount in lost.items() if payee[ref] == account_id)
        got = sum(amount for ref, amount in fees.items() if payee[ref] == account_id and ref in bought)
        require(gave <= got, "the reserve gives no more than it got", account_id, gave, got)


def require(holds: object, what: str, *evidence: object) -> None:
    """Raise what was found unless it holds."""
    if not holds:
        raise Found(what, *evidence)


# Two who spend at once


TILL, PURSE = b"t" * 16, b"p" * 16


async def spend_at_once(database: PostgresDatabase, spenders: int) -> int:
    """Let many spend ten of a purse of 55 at the same moment; returns how many were let."""
    ledger = PostgresLedger()
    async with database.transaction() as tx:
        await ledger.open_accounts(tx, [account(TILL, 1, 1), account(PURSE, 1, 1, DEBITS_MUST_NOT_EXCEED_CREDITS)])
        await ledger.post(tx, [transfer(b"0" * 16, TILL, PURSE, 55, 1, 1)], 1)

    async def spend(number: int) -> bool:
        async with database.transaction() as tx:
            [result] = await ledger.post(tx, [transfer(number.to_bytes(16, "big"), PURSE, TILL, 10, 1, 1)], 2)
        return result.ok

    return sum(await asyncio.gather(*map(spend, range(1, spenders + 1))))


async def test_no_more_is_spent_at_once_than_there_is(engines: Engines) -> None:
    async with opened(engines) as database:
        assert await spend_at_once(database, 20) == 5


async def test_spending_without_locks_is_found(engines: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one of ten tries: on a machine that is busy enough all may spend one after the other."""
    uses = plant(monkeypatch, "ORDER BY id FOR UPDATE", "ORDER BY id")
    found = False
    for _ in range(10):
        found = found or await overspent(engines)
    assert uses["mutated"]
    assert found


async def overspent(engines: Engines) -> bool:
    """Whether more was let than there is, or the books do not add up."""
    spent = 0
    async with opened(engines) as database:
        with suppress(Unavailable):
            spent = await spend_at_once(database, 20)
        async with database.transaction() as tx:
            return spent > 5 or not (await PostgresLedger().check(tx)).ok
