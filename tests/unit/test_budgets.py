"""What an account may spend in a calendar month: months, and what the market does where the budget ends."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.adapters.memory.budgets import MemoryBudgetStore
from fallow.adapters.memory.database import MemoryDatabase
from fallow.domain.budgets import Budget, begins_at, month_name, month_of
from fallow.domain.chart import Credit, hold
from fallow.domain.errors import InsufficientFunds
from fallow.domain.jobs import ItemState
from fallow.domain.leases import LeaseState
from fallow.ports.tasks import background
from fallow.services.market.funds import Funds
from fallow.services.market.money import Cashier
from tests.market_twins import START, TERM, finish
from tests.market_world import World
from tests.unit.fake_network import HandClock
from tests.unit.market_orders import accept_all, order, submit

DAY_MS = 86_400_000


def test_a_month_ends_where_the_next_begins() -> None:
    december = month_of(1_796_083_199_999)
    assert (month_name(december), month_name(december + 1)) == ("2026-11", "2026-12")
    assert begins_at(december + 1) == 1_796_083_200_000
    assert month_of(begins_at(december + 1) - 1) == december


@given(at=st.datetimes(datetime(1970, 1, 1), datetime(9999, 11, 30), timezones=st.just(UTC)))  # noqa: DTZ001 - bounds
def test_months_are_the_calendars(at: datetime) -> None:
    ms = int(at.timestamp()) * 1000
    first = at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    assert month_name(month_of(ms)) == f"{at:%Y-%m}"
    assert begins_at(month_of(ms)) == int(first.timestamp()) * 1000


def test_a_month_begins_with_nothing_spent_and_does_not_come_again() -> None:
    budget = Budget(limit_microusd=100).at(0).spend(70)._replace(reached=True)
    later = budget.at(31 * DAY_MS)
    assert (budget.left(20), later.left(20), later.reached) == (10, 80, False)
    assert later.spend(5).at(0) == later.spend(5), "a clock that is behind counts in the month that has begun"


def test_what_costs_nothing_is_covered_by_a_budget_that_is_used_up() -> None:
    budget = Budget(limit_microusd=10, spent_microusd=20)
    assert budget.covers(0, 0)
    assert not budget.covers(1, 0)


def _first_window(world: World) -> bytes:
    submit(world, order(time_limit_s=30))  # a window of 10 s costs 1000
    (lease,) = accept_all(world)
    world.wait(10_000)
    world.interim(world.nodes[0], lease, 0, 10_000)
    world.settle()
    return lease


def _some_rounds(world: World) -> None:
    for _ in range(5):
        world.wait(5000)
        world.settle()


def test_the_accounts_budget_ends_a_lease_with_its_window_and_its_item_waits(world: World) -> None:
    world.budget(world.buyers[0], 1999)
    _first_window(world)
    (job,) = world.store.all_jobs()
    (item,) = world.store.items_of(job)
    assert (item.state, item.reason, item.owed_microusd) == (ItemState.WAITING, "account.budget", 1000)
    shown = world.budget_of(world.buyers[0])
    assert (shown.spent_microusd, shown.reserved_microusd, shown.reached) == (1000, 0, True)
    _some_rounds(world)
    assert len(world.store.all_leases()) == 2, "it is tried once more, for the window gave something back, and no more"


def test_an_item_that_met_the_budget_goes_on_when_that_is_raised(world: World) -> None:
    world.budget(world.buyers[0], 1999)
    _first_window(world)
    _some_rounds(world)
    assert not world.budget(world.buyers[0], 2000).reached
    world.settle()
    (lease,) = world.brain.leases.values()
    assert (lease.state, lease.deposit_microusd) == (LeaseState.PROPOSED, 1000)


def test_an_item_that_met_the_budget_goes_on_in_the_next_month(world: World) -> None:
    world.budget(world.buyers[0], 1000)
    _first_window(world)
    _some_rounds(world)
    assert not world.brain.leases
    world.wait(begins_at(month_of(START) + 1) - world.now)
    world.settle()
    assert len(world.brain.leases) == 1


def test_a_lease_goes_on_to_its_last_window_where_the_budget_covers_just_that(world: World) -> None:
    world.budget(world.buyers[0], 3000)
    lease = _first_window(world)
    world.wait(10_000)
    world.interim(world.nodes[0], lease, 1, 10_000)
    world.settle()
    world.wait(10_000)
    world.final(world.nodes[0], lease, 2, 10_000)
    world.settle()
    shown = world.budget_of(world.buyers[0])
    assert (shown.spent_microusd, shown.reserved_microusd, shown.reached) == (3000, 0, False)


def test_what_another_role_reserves_while_the_market_waits_for_the_budget_counts(world: World) -> None:
    """A subscription's window is reserved in the moment before the market has the account's row to itself."""
    account, budgets = world.buyers[0], world.budgets
    world.budget(account, 1500)

    class Late(MemoryBudgetStore):
        async def lock(self, tx: Any, accounts: Any) -> dict[bytes, Budget]:
            reserved = hold(b"s" * 16, 0, account, ((int(Credit.GRANTED), 1000),))
            assert all(result.ok for result in await world.ledger.post(tx, reserved, world.now))
            return await budgets.lock(tx, accounts)

        async def save(self, tx: Any, changed: Any) -> None:
            await budgets.save(tx, changed)

    world.rounds._cashier._budgets = Late()
    world.submit(order(time_limit_s=30), account)
    finish(world.rounds._round(TERM))
    assert world.budget_of(account).reached
    assert not world.brain.leases


async def test_an_order_that_the_budget_does_not_cover_is_refused_with_what_to_do() -> None:
    world, clock = World(), HandClock()
    account = world.buyers[0]
    world.grant(account, 10_000)
    world.budget(account, 400)
    funds = Funds(clock, MemoryDatabase(), Cashier(cast("Any", world.ledger), world.budgets))
    async with background(funds.run()):
        await funds.check(account, 400)
        with pytest.raises(InsufficientFunds) as caught:
            await funds.check(account, 401)
    assert caught.value.code == "account.budget"
    assert "for 1970-01, 0.0004 USD, leaves 0.0004 USD; 0.000401 USD would be reserved" in caught.value.message
    assert "fallow account budget" in caught.value.hint
