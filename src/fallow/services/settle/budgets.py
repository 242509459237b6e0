"""An account says how much it may spend in a calendar month, and is told how far it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from fallow.domain import calls
from fallow.domain.budgets import Budget, begins_at, month_name
from fallow.domain.identity import address
from fallow.domain.views.money import BudgetView
from fallow.ports.budgets import BudgetStore
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.database import Database
from fallow.ports.ledger import Ledger
from fallow.ports.rpc import serve
from fallow.services.settle.wallets import wallet

QUEUE: Final = "settle"


class Budgets:
    """Answers `settle.budget` and `settle.set_budget`. Several copies may run: all state is in the store."""

    def __init__(self, *, bus: Bus, clock: Clock, database: Database, ledger: Ledger, store: BudgetStore) -> None:
        self._bus = bus
        self._clock = clock
        self._database = database
        self._ledger = ledger
        self._store = store

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve while the context is open."""
        async with (
            serve(self._bus, calls.money.BUDGET, calls.base.AccountRef, self.show, queue=QUEUE),
            serve(self._bus, calls.money.SET_BUDGET, calls.money.SetBudget, self.set, queue=QUEUE),
        ):
            yield

    async def show(self, request: calls.base.AccountRef) -> BudgetView:
        """Show an account's budget, and what it spent in this month."""
        owner = address(request.account)
        async with self._database.transaction() as tx:
            budget = (await self._store.read(tx, [owner]))[owner].at(self._clock.now_ms())
            return _view(budget, (await wallet(tx, self._ledger, owner)).reserved)

    async def set(self, request: calls.money.SetBudget) -> BudgetView:
        """Set or end an account's budget: it holds at once, and takes nothing back of what is reserved."""
        owner = address(request.account)
        async with self._database.transaction() as tx:
            before = (await self._store.lock(tx, [owner]))[owner].at(self._clock.now_ms())
            budget = before._replace(limit_microusd=request.budget.budget_microusd, reached=False)
            await self._store.save(tx, {owner: budget})
            reserved = (await wallet(tx, self._ledger, owner)).reserved
        await self._bus.publish(calls.money.CREDITED, request.account.encode())  # what waited for it is tried again
        return _view(budget, reserved)


def _view(budget: Budget, reserved_microusd: int) -> BudgetView:
    return BudgetView(
        month=month_name(budget.month),
        ends_at=begins_at(budget.month + 1),
        budget_microusd=budget.limit_microusd,
        spent_microusd=budget.spent_microusd,
        reserved_microusd=reserved_microusd,
        reached=budget.reached,
    )
