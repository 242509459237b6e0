"""Subscriptions on both databases: windows settle once, also when several copies are at it."""

# ruff: noqa: D102 - the names of the steps say what they do

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from fallow.adapters.memory.bus import MemoryBus, MemoryHub
from fallow.adapters.memory.database import MemoryDatabase
from fallow.adapters.memory.decisions import MemoryDecisionStore
from fallow.adapters.memory.ledger import MemoryLedger
from fallow.adapters.memory.subscriptions import MemorySubscriptionStore
from fallow.adapters.postgres.database import open_database
from fallow.adapters.postgres.decisions import PostgresDecisionStore
from fallow.adapters.postgres.ledger import PostgresLedger
from fallow.adapters.postgres.migrations import builtin, migrate
from fallow.adapters.postgres.subscriptions import PostgresSubscriptionStore
from fallow.domain import calls
from fallow.domain.billing import FeePolicy
from fallow.domain.chart import Purpose, account_id, accounts_of, grant, network_accounts
from fallow.domain.errors import InsufficientFunds, NotFound, Unavailable
from fallow.domain.identity import address_text
from fallow.domain.subscriptions import RETRY_MS, Price
from fallow.domain.views import SubscriptionView
from fallow.ports.database import Database
from fallow.ports.ledger import Ledger
from fallow.ports.subscription_store import SubscriptionStore
from fallow.services.settle.subscriptions import Subscriptions
from tests.unit.fake_network import HandClock

BUYER, PAYEE, OTHER = b"a" * 20, b"p" * 20, b"q" * 20
WINDOW_MS = 10_000
LIMIT = 5000
COPIES = 4


class World:
    """Copies of the service on one database."""

    def __init__(self, database: Database, ledger: Ledger, store: SubscriptionStore) -> None:
        self.clock = HandClock()
        self.database, self.ledger = database, ledger
        self.grants = 0
        bus = MemoryBus(MemoryHub())
        self.copies = [
            Subscriptions(
                bus=bus,
                clock=self.clock,
                database=database,
                ledger=ledger,
                store=store,
                decisions=MemoryDecisionStore() if isinstance(database, MemoryDatabase) else PostgresDecisionStore(),
                fee=FeePolicy(100_000, 0),
                epoch_ms=86_400_000,
            )
            for _ in range(COPIES)
        ]
        self.service = self.copies[0]

    async def pay_in(self, amount: int) -> None:
        self.grants += 1
        async with self.database.transaction() as tx:
            await self.ledger.open_accounts(tx, [*network_accounts(), *accounts_of(BUYER)])
            (result,) = await self.ledger.post(tx, [grant(f"{self.grants:032x}", BUYER, amount)], 1)
            assert result.ok

    async def open(self, number: int = 1, limit: int = LIMIT) -> str:
        name = f"{number:032x}"
        request = calls.Subscribe(
            id=name,
            account=address_text(BUYER),
            vertical="storage",
            tariff={"bytes": Price(microusd=1)},
            limit_microusd=limit,
            window_ms=WINDOW_MS,
        )
        await self.service.open(request)
        return name

    async def report(self, name: str, quantity: int, payee: bytes = PAYEE, source: str = "g1") -> SubscriptionView:
        said = calls.Delivery(source=source, payee=address_text(payee), meter="bytes", quantity=str(quantity))
        use = calls.MeterUse(account=address_text(BUYER), id=name, deliveries=[said])
        return await self.service.meter(use)

    async def show(self, number: int = 1) -> SubscriptionView:
        found = await self.service.list_of(calls.AccountRef(account=address_text(BUYER)))
        return found[number - 1]

    async def earned(self, purpose: Purpose, owner: bytes = b"") -> int:
        id_ = account_id(purpose, 1, owner)
        async with self.database.transaction() as tx:
            balance = (await self.ledger.balances(tx, [id_]))[id_]
        return balance.credits_posted - balance.debits_posted


@asynccontextmanager
async def on_postgres(dsn: str) -> AsyncIterator[World]:
    async with open_database(dsn, pool_size=10) as database:
        await migrate(database, builtin("ledger"), builtin("settle"), builtin("outbox"))
        yield World(database, PostgresLedger(), PostgresSubscriptionStore())


@pytest.fixture
async def postgres_world(postgres_dsn: str) -> AsyncIterator[World]:
    async with on_postgres(postgres_dsn) as world:
        yield world


@pytest.fixture
def memory_world() -> World:
    return World(MemoryDatabase(), MemoryLedger(), MemorySubscriptionStore())


@pytest.fixture(params=["memory", "postgres"])
def world(request: pytest.FixtureRequest) -> World:
    made: World = request.getfixturevalue(f"{request.param}_world")
    return made


async def test_a_window_is_settled_and_the_next_reserved_from_what_it_gives_back(world: World) -> None:
    await world.pay_in(LIMIT + 1000)
    name = await world.open()
    await world.report(name, 600)
    await world.report(name, 400, payee=OTHER, source="g2")
    world.clock.advance(WINDOW_MS)
    assert await world.service.roll_one()
    assert not await world.service.roll_one()
    view = await world.show()
    assert (view.state, view.window, view.settled_microusd, view.left_microusd) == ("active", 1, 1000, LIMIT)
    assert await world.earned(Purpose.EARNED, PAYEE) == 540
    assert await world.earned(Purpose.EARNED, OTHER) == 360
    assert await world.earned(Purpose.FEE) == 100


async def test_who_cannot_pay_for_the_next_window_is_suspended_until_he_can(world: World) -> None:
    await world.pay_in(LIMIT)
    name = await world.open()
    await world.report(name, 1)
    world.clock.advance(WINDOW_MS)
    assert await world.service.roll_one()
    assert (await world.show()).state == "suspended"
    with pytest.raises(InsufficientFunds):
        await world.report(name, 2)
    await world.pay_in(1)
    await world.service.resume(BUYER)
    assert (await world.show()).state == "active"
    assert (await world.report(name, 2)).left_microusd == LIMIT - 1


async def test_a_message_about_money_that_got_lost_is_made_up_for(world: World) -> None:
    await world.pay_in(LIMIT)
    name = await world.open()
    await world.report(name, 1)
    world.clock.advance(WINDOW_MS)
    await world.service.roll_one()
    await world.pay_in(1)
    world.clock.advance(RETRY_MS - 1)
    assert not await world.service.roll_one()
    world.clock.advance(1)
    assert await world.service.roll_one()
    assert (await world.show()).state == "active"


async def test_idle_windows_move_no_money(world: World) -> None:
    await world.pay_in(LIMIT)
    await world.open()
    world.clock.advance(5 * WINDOW_MS)
    assert await world.service.roll_one()
    view = await world.show()
    assert (view.state, view.window, view.window_ends_at) == ("active", 0, world.clock.now_ms() + WINDOW_MS)


async def test_copies_that_roll_at_once_settle_each_window_once(world: World) -> None:
    await world.pay_in(12 * LIMIT)
    names = [await world.open(number) for number in range(1, 7)]
    for name in names:
        await world.report(name, 100)
    world.clock.advance(WINDOW_MS)

    async def all_of(copy: Subscriptions) -> None:
        while True:
            try:
                if not await copy.roll_one():
                    return
            except Unavailable:
                continue  # as the service itself: another was faster

    async with asyncio.TaskGroup() as group:
        for copy in world.copies:
            group.create_task(all_of(copy))
    assert await world.earned(Purpose.EARNED, PAYEE) == 6 * 90
    assert [(await world.show(number)).window for number in range(1, 7)] == [1] * 6


async def test_gateways_that_report_at_once_are_all_counted(world: World) -> None:
    await world.pay_in(LIMIT)
    name = await world.open()
    async with asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(world.report(name, 10 + number, source=f"g{number}"))
    assert (await world.show()).left_microusd == LIMIT - sum(range(10, 18))


async def test_what_is_not_there_is_said(world: World) -> None:
    with pytest.raises(NotFound):
        await world.report("0" * 32, 1)
