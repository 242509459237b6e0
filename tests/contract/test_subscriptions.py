"""Subscriptions on both databases: windows settle once, also when several copies are at it."""

# ruff: noqa: D102 - the names of the steps say what they do

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from fallow.adapters.memory.budgets import MemoryBudgetStore
from fallow.adapters.memory.bus import MemoryBus, MemoryHub
from fallow.adapters.memory.database import MemoryDatabase
from fallow.adapters.memory.decisions import MemoryDecisionStore
from fallow.adapters.memory.ledger import MemoryLedger
from fallow.adapters.memory.subscriptions import MemorySubscriptionStore
from fallow.adapters.postgres.budgets import PostgresBudgetStore
from fallow.adapters.postgres.database import open_database
from fallow.adapters.postgres.decisions import PostgresDecisionStore
from fallow.adapters.postgres.ledger import PostgresLedger
from fallow.adapters.postgres.migrations import builtin, migrate
from fallow.adapters.postgres.subscriptions import PostgresSubscriptionStore
from fallow.domain import calls
from fallow.domain.billing import FeePolicy
from fallow.domain.chart import Kind, Purpose, account_id, accounts_of, grant, network_accounts
from fallow.domain.errors import InsufficientFunds, NotFound, Unavailable
from fallow.domain.fees import Fees, FeeWord
from fallow.domain.identity import address_text
from fallow.domain.ledger import Result, Transfer
from fallow.domain.subscriptions import RETRY_MS, Price, subscription_key
from fallow.domain.views.money import BudgetView, SubscriptionView
from fallow.ports.budgets import BudgetStore
from fallow.ports.database import Database, Transaction
from fallow.ports.ledger import Ledger
from fallow.ports.subscription_store import SubscriptionStore
from fallow.services.settle.budgets import Budgets
from fallow.services.settle.posting import RACES_MAX, Misposted
from fallow.services.settle.subscriptions import Subscriptions
from fallow.services.settle.wallets import wallet
from tests.unit.fake_network import HandClock

BUYER, PAYEE, OTHER = b"a" * 20, b"p" * 20, b"q" * 20
WINDOW_MS = 10_000
LIMIT = 5000
COPIES = 4


class World:
    """Copies of the service on one database."""

    def __init__(self, database: Database, ledger: Ledger, store: SubscriptionStore, budgets: BudgetStore) -> None:
        self.clock = HandClock()
        self.database, self.ledger = database, ledger
        self.store, self.budgets, self.grants = store, budgets, 0
        self.fees = Fees(FeePolicy(100_000, 0))
        self.copies = [self.served_by(ledger) for _ in range(COPIES)]
        self.service = self.copies[0]

    def served_by(self, ledger: Ledger) -> Subscriptions:
        memory = isinstance(self.database, MemoryDatabase)
        return Subscriptions(
            bus=MemoryBus(MemoryHub()),
            clock=self.clock,
            database=self.database,
            ledger=ledger,
            store=self.store,
            budgets=self.budgets,
            decisions=MemoryDecisionStore() if memory else PostgresDecisionStore(),
            fees=self.fees,
            epoch_ms=86_400_000,
        )

    async def pay_in(self, amount: int) -> None:
        self.grants += 1
        async with self.database.transaction() as tx:
            await self.ledger.open_accounts(tx, [*network_accounts(), *accounts_of(BUYER)])
            (result,) = await self.ledger.post(tx, [grant(f"{self.grants:032x}", BUYER, amount)], 1)
            assert result.ok

    async def open(self, number: int = 1, limit: int = LIMIT) -> str:
        name = f"{number:032x}"
        request = calls.subscriptions.Subscribe(
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
        said = calls.subscriptions.Delivery(
            source=source, payee=address_text(payee), meter="bytes", quantity=str(quantity)
        )
        use = calls.subscriptions.MeterUse(account=address_text(BUYER), id=name, deliveries=[said])
        return await self.service.meter(use)

    async def show(self, number: int = 1) -> SubscriptionView:
        found = await self.service.list_of(calls.base.AccountRef(account=address_text(BUYER)))
        return found[number - 1]

    async def earned(self, purpose: Purpose, owner: bytes = b"") -> int:
        id_ = account_id(purpose, 1, owner)
        async with self.database.transaction() as tx:
            balance = (await self.ledger.balances(tx, [id_]))[id_]
        return balance.credits_posted - balance.debits_posted

    async def budget(self, microusd: int | None) -> BudgetView:
        wanted = calls.money.MonthlyBudget(budget_microusd=microusd)
        return await self.budgets_of().set(calls.money.SetBudget(account=address_text(BUYER), budget=wanted))

    def budgets_of(self) -> Budgets:
        return Budgets(
            bus=MemoryBus(MemoryHub()),
            clock=self.clock,
            database=self.database,
            ledger=self.ledger,
            store=self.budgets,
        )

    async def spent(self) -> tuple[int, int, bool]:
        view = await self.budgets_of().show(calls.base.AccountRef(account=address_text(BUYER)))
        return view.spent_microusd, view.reserved_microusd, view.reached

    async def spendable(self) -> int:
        async with self.database.transaction() as tx:
            return sum((await wallet(tx, self.ledger, BUYER)).available.values())


@asynccontextmanager
async def on_postgres(dsn: str) -> AsyncIterator[World]:
    async with open_database(dsn, pool_size=10) as database:
        await migrate(database, builtin("ledger"), builtin("settle"), builtin("outbox"))
        yield World(database, PostgresLedger(), PostgresSubscriptionStore(), PostgresBudgetStore())


@pytest.fixture
async def postgres_world(postgres_dsn: str) -> AsyncIterator[World]:
    async with on_postgres(postgres_dsn) as world:
        yield world


@pytest.fixture
def memory_world() -> World:
    return World(MemoryDatabase(), MemoryLedger(), MemorySubscriptionStore(), MemoryBudgetStore())


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


async def test_a_window_is_charged_by_the_fee_that_held_when_it_began(world: World) -> None:
    await world.pay_in(3 * LIMIT)
    name = await world.open()
    world.fees.words = [FeeWord(world.clock.now_ms() + WINDOW_MS, 250_000, 200_000)]
    await world.report(name, 1000)
    world.clock.advance(WINDOW_MS)
    assert await world.service.roll_one()
    assert (await world.earned(Purpose.EARNED, PAYEE), await world.earned(Purpose.FEE)) == (900, 100)
    await world.report(name, 2001)
    world.clock.advance(WINDOW_MS)
    assert await world.service.roll_one()
    assert await world.earned(Purpose.EARNED, PAYEE) == 900 + 751
    assert await world.earned(Purpose.FEE) + await world.earned(Purpose.RESERVE) == 100 + 250


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


class _Refusing:
    """A ledger that refuses transfers of some kinds of one subscription, as where a bug has made them wrong."""

    def __init__(self, ledger: Ledger, key: bytes, result: Result, *kinds: Kind) -> None:
        self._ledger, self._key, self._result = ledger, key, result
        self.kinds = {int(kind) for kind in kinds}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    async def post(self, tx: Transaction, transfers: Sequence[Transfer], now_ms: int) -> list[Result]:
        if not any(each.ref == self._key and each.code in self.kinds for each in transfers):
            return await self._ledger.post(tx, transfers, now_ms)
        return [self._result if each.code in self.kinds else Result.LINKED_EVENT_FAILED for each in transfers]


async def _two_of_which_one_fails(world: World, result: Result, *kinds: Kind) -> tuple[Subscriptions, _Refusing]:
    """Both are due, and the one that cannot be settled is the longest overdue."""
    await world.pay_in(4 * LIMIT)
    bad = await world.open()
    await world.report(bad, 100)
    world.clock.advance(1)
    await world.report(await world.open(2), 1000, payee=OTHER)
    world.clock.advance(WINDOW_MS)
    refusing = _Refusing(world.ledger, subscription_key(BUYER, bad), result, *kinds)
    return world.served_by(cast("Ledger", refusing)), refusing


async def _rolled(service: Subscriptions, times: int = 30) -> int:
    """Look for what is due, as the service itself does; returns how often another seemed to be faster."""
    raced = 0
    for _ in range(times):
        try:
            await service.roll_one()
        except Unavailable:
            raced += 1
    return raced


@pytest.mark.mishaps
async def test_one_that_cannot_go_on_ends_and_what_was_used_is_paid(world: World) -> None:
    service, _ = await _two_of_which_one_fails(world, Result.EXISTS_WITH_DIFFERENT_AMOUNT, Kind.WINDOW)
    assert await _rolled(service) == 0
    bad, good = await world.show(1), await world.show(2)
    assert (bad.state, bad.reason, bad.settled_microusd) == ("ended", "network.failed", 100)
    assert (good.state, good.window) == ("active", 1)
    assert (await world.earned(Purpose.EARNED, PAYEE), await world.earned(Purpose.EARNED, OTHER)) == (90, 900)
    assert await world.spendable() == 4 * LIMIT - 100 - 1000 - LIMIT


@pytest.mark.mishaps
async def test_one_that_cannot_even_be_settled_ends_with_its_money_where_it_is(world: World) -> None:
    service, _ = await _two_of_which_one_fails(world, Result.DEBIT_ACCOUNT_NOT_FOUND, Kind.INCOME)
    assert await _rolled(service) == 0
    bad, good = await world.show(1), await world.show(2)
    assert (bad.state, bad.reason, bad.settled_microusd) == ("ended", "network.failed", 0)
    assert (good.state, good.window) == ("active", 1)
    assert await world.earned(Purpose.FEE) == 100
    assert await world.spendable() == 4 * LIMIT - LIMIT - 1000 - LIMIT


async def test_who_was_too_late_for_the_money_tries_again(world: World) -> None:
    service, refusing = await _two_of_which_one_fails(world, Result.EXCEEDS_CREDITS, Kind.WINDOW)
    assert await _rolled(service, 3) == 3
    refusing.kinds = set()
    assert await _rolled(service) == 0
    assert [(await world.show(number)).window for number in (1, 2)] == [1, 1]


@pytest.mark.mishaps
async def test_who_is_too_late_again_and_again_although_nobody_spends_is_no_race(world: World) -> None:
    service, _ = await _two_of_which_one_fails(world, Result.EXCEEDS_CREDITS, Kind.WINDOW)
    assert await _rolled(service) == RACES_MAX - 1
    assert [(await world.show(number)).state for number in (1, 2)] == ["ended", "active"]


@pytest.mark.mishaps
async def test_a_suspended_one_that_cannot_go_on_holds_up_no_other(world: World) -> None:
    await world.pay_in(2 * LIMIT)
    names = [await world.open(number) for number in (1, 2)]
    for name in names:
        await world.report(name, LIMIT)
    world.clock.advance(WINDOW_MS)
    assert await _rolled(world.service) == 0
    await world.pay_in(2 * LIMIT)
    key = subscription_key(BUYER, names[0])
    refusing = _Refusing(world.ledger, key, Result.EXISTS_WITH_DIFFERENT_AMOUNT, Kind.WINDOW)
    await world.served_by(cast("Ledger", refusing)).resume(BUYER)
    assert [(await world.show(number)).state for number in (1, 2)] == ["ended", "active"]


async def test_a_buyers_request_that_a_bug_ends_changes_nothing(world: World) -> None:
    await world.pay_in(LIMIT)
    name = await world.open()
    await world.report(name, 100)
    refusing = _Refusing(world.ledger, subscription_key(BUYER, name), Result.DEBIT_ACCOUNT_NOT_FOUND, Kind.INCOME)
    with pytest.raises(Misposted):
        await world.served_by(cast("Ledger", refusing)).close(
            calls.subscriptions.SubscriptionRef(account=address_text(BUYER), id=name)
        )
    assert (await world.show()).state == "active"


async def test_a_database_that_fails_ends_no_subscription(memory_world: World) -> None:
    """Its disk may be full for a moment."""

    class DiskFull(Exception):
        """What a database says that no rule foresees."""

    class Failing(MemoryLedger):
        async def post(self, tx: Transaction, transfers: Sequence[Transfer], now_ms: int) -> list[Result]:
            raise DiskFull(tx, transfers, now_ms)

    await memory_world.pay_in(2 * LIMIT)
    await memory_world.report(await memory_world.open(), 100)
    memory_world.clock.advance(WINDOW_MS)
    failing = Failing()
    failing.accounts = cast("MemoryLedger", memory_world.ledger).accounts
    with pytest.raises(DiskFull):
        await memory_world.served_by(failing).roll_one()
    assert (await memory_world.show()).state == "active"
    assert await memory_world.service.roll_one()
    assert (await memory_world.show()).window == 1


async def test_copies_that_reserve_at_once_stay_within_the_accounts_budget(world: World) -> None:
    await world.pay_in(COPIES * LIMIT)
    await world.budget(2 * LIMIT)

    async def subscribe(copy: Subscriptions, number: int) -> str:
        request = calls.subscriptions.Subscribe(
            id=f"{number:032x}",
            account=address_text(BUYER),
            vertical="storage",
            tariff={"bytes": Price(microusd=1)},
            limit_microusd=LIMIT,
            window_ms=WINDOW_MS,
        )
        try:
            return (await copy.open(request)).state
        except InsufficientFunds as refused:
            return refused.code

    outcomes = await asyncio.gather(*(subscribe(copy, number) for number, copy in enumerate(world.copies)))
    assert sorted(outcomes) == ["account.budget"] * (COPIES - 2) + ["active"] * 2
    assert await world.spent() == (0, 2 * LIMIT, False)


async def test_one_that_meets_the_accounts_budget_waits_until_it_is_raised(world: World) -> None:
    await world.pay_in(4 * LIMIT)
    await world.budget(2 * LIMIT - 1)
    await world.report(await world.open(), LIMIT)
    world.clock.advance(WINDOW_MS)
    assert await _rolled(world.service, 2) == 0
    met = await world.show()
    assert (met.state, met.reason, met.settled_microusd) == ("suspended", "account.budget", LIMIT)
    assert await world.spent() == (LIMIT, 0, True)
    await world.budget(2 * LIMIT)
    await world.service.resume(BUYER)
    assert ((await world.show()).state, await world.spent()) == ("active", (LIMIT, LIMIT, False))


async def test_one_that_met_the_budget_goes_on_in_the_next_month(world: World) -> None:
    await world.pay_in(4 * LIMIT)
    await world.budget(LIMIT)
    await world.report(await world.open(), 1)
    world.clock.advance(WINDOW_MS)
    assert await _rolled(world.service, 2) == 0
    assert ((await world.show()).state, await world.spent()) == ("suspended", (1, 0, True))
    world.clock.advance(31 * 86_400_000)
    assert await _rolled(world.service, 2) == 0
    assert ((await world.show()).state, await world.spent()) == ("active", (0, LIMIT, False))


async def test_a_budget_that_is_lowered_takes_nothing_back(world: World) -> None:
    await world.pay_in(4 * LIMIT)
    name = await world.open()
    shown = await world.budget(0)
    assert (shown.budget_microusd, shown.reserved_microusd) == (0, LIMIT)
    assert (await world.report(name, LIMIT)).state == "active"
    with pytest.raises(InsufficientFunds, match="for 1970-01, 0 USD, leaves 0 USD"):
        await world.open(2)
    world.clock.advance(WINDOW_MS)
    assert await _rolled(world.service, 2) == 0
    assert ((await world.show()).reason, await world.spent()) == ("account.budget", (LIMIT, 0, True))
