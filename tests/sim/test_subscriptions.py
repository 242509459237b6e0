"""Subscriptions on a real PostgreSQL: seeded steps, several copies, lost transactions; and bugs that this finds."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import asyncpg
import msgspec
import pytest

from fallow.adapters.memory.bus import MemoryBus, MemoryHub
from fallow.adapters.postgres.budgets import PostgresBudgetStore
from fallow.adapters.postgres.database import PostgresDatabase, open_database
from fallow.adapters.postgres.decisions import PostgresDecisionStore
from fallow.adapters.postgres.ledger import PostgresLedger
from fallow.adapters.postgres.migrations import builtin, migrate
from fallow.adapters.postgres.subscriptions import PostgresSubscriptionStore
from fallow.domain import calls, subscriptions
from fallow.domain.billing import FeePolicy
from fallow.domain.chart import Kind, accounts_of, grant, network_accounts
from fallow.domain.errors import FallowError, InsufficientFunds, Unavailable
from fallow.domain.fees import Fees
from fallow.domain.identity import address_text
from fallow.domain.ledger import PENDING, POST_PENDING
from fallow.domain.subscriptions import Price, Subscription, subscription_key
from fallow.services.settle.subscriptions import Subscriptions
from tests.engines import Engines, fresh_database
from tests.sim.sql_world import Lossy
from tests.sim.test_sql import Found, plant, require
from tests.unit.fake_network import HandClock

SEEDS, STEPS, CALM_ROUNDS_MAX = 5, 60, 60
WINDOW_MS, LIMIT, COPIES = 10_000, 4_000, 2
POOR, GRANT = 10_000, 10**7
BUYER = b"a" * 20
NAMES = [f"{number:032x}" for number in range(1, 4)]
PAYEES = [b"p" * 20, b"q" * 20]
MICROUSD = 3

PLANTED = {
    "what was counted is not written": ("due_at = $3, doc = $4", "due_at = $3, doc = coalesce(doc, $4)"),
    "what was settled counts again": ("SET settled = quantity", "SET settled = settled"),
}
"""A statement's part, and what stands there instead."""


class World:
    """A buyer with some subscriptions, gateways that report what they delivered, and copies of the service."""

    def __init__(self, database: PostgresDatabase, seed: int) -> None:
        self.chance = random.Random(f"{seed}/subscriptions")
        self.clock = HandClock()
        self.plain, self.database = database, Lossy(database, self.chance)
        self.delivered: Counter[tuple[str, str, bytes]] = Counter()
        self.told: Counter[tuple[str, str, bytes]] = Counter()
        """By subscription, gateway and payee: all that there was, and what the service is known to have counted."""
        self.copies = [
            Subscriptions(
                bus=MemoryBus(MemoryHub()),
                clock=self.clock,
                database=cast("Any", self.database),
                ledger=PostgresLedger(),
                store=PostgresSubscriptionStore(),
                budgets=PostgresBudgetStore(),
                decisions=PostgresDecisionStore(),
                fees=Fees(FeePolicy(100_000, 0)),
                epoch_ms=86_400_000,
            )
            for _ in range(COPIES)
        ]

    async def live(self) -> None:
        """Begin, let things go wrong, come to rest, and end all."""
        async with self.plain.transaction() as tx:
            await PostgresLedger().open_accounts(tx, [*network_accounts(), *accounts_of(BUYER)])
        await self._grant(POOR)
        for name in NAMES:
            await self._open(name)
        self.database.odds = 0.1
        for _ in range(STEPS):
            await self._step()
        self.database.odds = 0.0
        await self._grant(GRANT)
        for _ in range(CALM_ROUNDS_MAX):
            self.clock.advance(WINDOW_MS)
            await self._roll()
            await self._report_all()
            if self.told == self.delivered:
                break
        require(self.told == self.delivered, "all is counted within some windows of calm", self.delivered - self.told)
        for name in NAMES:
            await self.copies[0].close(calls.subscriptions.SubscriptionRef(account=address_text(BUYER), id=name))

    async def _step(self) -> None:
        chance = self.chance.random()
        if chance < 0.5:
            key = self.chance.choice(NAMES), self.chance.choice(("g1", "g2")), self.chance.choice(PAYEES)
            self.delivered[key] += self.chance.randrange(1, 200)
        if chance < 0.7:
            await self._report_all()
        self.clock.advance(self.chance.choice((100, 2_000, WINDOW_MS)))
        with suppress(Unavailable):
            await self._roll()

    async def _report_all(self) -> None:
        """A gateway says again what it does not know to be counted: quantities only grow, so that this is the same."""
        for key in sorted(self.delivered):
            quantity = self.delivered[key]
            if quantity > self.told[key]:
                name, source, payee = key
                said = calls.subscriptions.Delivery(
                    source=source, payee=address_text(payee), meter="bytes", quantity=str(quantity)
                )
                use = calls.subscriptions.MeterUse(account=address_text(BUYER), id=name, deliveries=[said])
                with suppress(Unavailable, InsufficientFunds):
                    await self.chance.choice(self.copies).meter(use)
                    self.told[key] = quantity

    async def _roll(self) -> None:
        """Settle what is over, and reserve anew for what is suspended."""
        copy = self.chance.choice(self.copies)
        for _ in range(2 * len(NAMES) + 1):
            if not await copy.roll_one():
                await copy.resume(BUYER)
                return
        raise Found("what is rolled is not due any more")

    async def _open(self, name: str) -> None:
        await self.copies[0].open(
            calls.subscriptions.Subscribe(
                id=name,
                account=address_text(BUYER),
                vertical="storage",
                tariff={"bytes": Price(microusd=MICROUSD)},
                limit_microusd=LIMIT // len(NAMES),
                window_ms=WINDOW_MS,
            )
        )

    async def _grant(self, amount: int) -> None:
        async with self.plain.transaction() as tx:
            (result,) = await PostgresLedger().post(tx, [grant(f"{amount:032x}", BUYER, amount)], 1)
            assert result.ok


async def check(world: World) -> None:
    """Compare what was delivered with what the ledger moved, by a statement of its own.

    Raises:
        Found: they contradict each other.
    """
    async with world.plain.transaction() as tx:
        audit = await PostgresLedger().check(tx)
        pending = await tx.fetch("SELECT id FROM ledger.account WHERE debits_pending > 0 OR credits_pending > 0")
        moved = await tx.fetch("SELECT ref, flags, code, amount::text AS amount FROM ledger.transfer")
    require(audit.ok, "the ledger adds up", audit.faults)
    require(not pending, "nothing stays reserved", pending)
    require(world.delivered, "something was delivered")
    for name in NAMES:
        mine = [row for row in moved if row["ref"] == subscription_key(BUYER, name)]
        left = sum(int(row["amount"]) for row in mine if row["flags"] & POST_PENDING)
        arrived = sum(
            int(row["amount"])
            for row in mine
            if row["code"] in {Kind.INCOME, Kind.FEE} and not row["flags"] & (PENDING | POST_PENDING)
        )
        owed = MICROUSD * sum(quantity for (key, _, _), quantity in world.delivered.items() if key == name)
        require(left == arrived == owed, "all use is paid, once", name, left, arrived, owed)


async def run(engines: Engines, seed: int) -> None:
    async with opened(engines) as database:
        world = World(database, seed)
        await world.live()
        await check(world)


@asynccontextmanager
async def opened(engines: Engines) -> AsyncIterator[PostgresDatabase]:
    async with fresh_database(engines) as dsn, open_database(dsn, pool_size=4) as database:
        await migrate(database, builtin("ledger"), builtin("settle"), builtin("outbox"))
        yield database


async def test_all_use_is_paid_once_whatever_goes_wrong(engines: Engines) -> None:
    for seed in range(SEEDS):
        await run(engines, seed)


@pytest.mark.mishaps
@pytest.mark.parametrize("name", PLANTED)
async def test_a_bug_in_sql_is_found(engines: Engines, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    uses = plant(monkeypatch, *PLANTED[name])
    await finds(engines, name)
    assert uses["mutated"]


@pytest.mark.mishaps
async def test_a_window_that_is_rolled_twice_is_found(engines: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    """A window that was settled keeps its number, so that what comes after it is settled under the same one again."""
    settled, rolled = subscriptions._settled, list[int]()

    def keep_the_number(subscription: Subscription, at: int) -> Subscription:
        rolled.append(subscription.window)
        return msgspec.structs.replace(settled(subscription, at), window=subscription.window)

    monkeypatch.setattr(subscriptions, "_settled", keep_the_number)
    await finds(engines, "a window is rolled twice")
    assert rolled


async def finds(engines: Engines, name: str) -> None:
    """Fail unless one of the seeds shows that something is wrong."""
    for seed in range(SEEDS):
        try:
            await run(engines, seed)
        except (Found, AssertionError, FallowError, asyncpg.PostgresError, ValueError) as error:
            print(f"{name}: found under seed {seed}: {str(error).splitlines()[0][:200]}")
            return
    pytest.fail(f"nobody noticed: {name}")
