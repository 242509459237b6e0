"""Long work: what no checkpoint or result backs is paid into keeping, and is the provider's once it is of use."""

from __future__ import annotations

from typing import Any, cast

import pytest

from fallow.domain.calls.base import AccountRef
from fallow.domain.chart import Credit, Purpose, account_id
from fallow.domain.identity import address_text
from fallow.domain.jobs import ItemState, JobState
from fallow.domain.leases import Lease
from fallow.services.settle.service import Settle
from tests.market_twins import finish
from tests.market_world import World
from tests.unit.market_orders import BIG, CHEAP, COMPARES, accept_all, order, submit

GRANTED = 1_000_000


@pytest.fixture
def world() -> World:
    world = World(nodes=6)
    world.grant(world.buyers[0], GRANTED)
    world.offer(world.nodes[0], BIG, CHEAP)  # a window of 10 s costs 1000
    world.round()
    return world


def has(world: World, purpose: Purpose, owner: bytes) -> int:
    """What is in a purse, without what is reserved."""
    account = world.ledger.accounts.get(account_id(purpose, Credit.GRANTED, owner))
    balance = account.balance if account else None
    return balance.credits_posted - balance.debits_posted - balance.debits_pending if balance else 0


def purses(world: World) -> tuple[int, int, int]:
    """What the buyer can spend, what is kept for the provider, and what is his."""
    provider = world.nodes[0].account
    kept, earned = has(world, Purpose.UNBACKED, provider), has(world, Purpose.EARNED, provider)
    return has(world, Purpose.WALLET, world.buyers[0]), kept, earned


def begin(world: World, work: dict[str, Any] | None = None, **fields: Any) -> bytes:
    submit(world, order(1, work=work, **fields))
    (lease,) = accept_all(world)
    return lease


def run(world: World, lease: bytes, windows: int, first: int = 0) -> Lease:
    """Close so many windows, each of them full."""
    for window in range(first, first + windows):
        world.wait(10_000)
        world.interim(world.nodes[0], lease, window, 10_000)
        world.settle()
    return world.store.lease(lease)


def test_a_day_without_checkpoints_is_paid_when_it_is_done(world: World) -> None:
    lease = begin(world)
    kept = run(world, lease, 24)
    assert (kept.owed_microusd, kept.unbacked_ms, kept.unbacked_microusd) == (0, 240_000, 24_000)
    assert purses(world) == (GRANTED - 25_000, 24_000, 0)  # the open window is reserved
    world.wait(5_000)
    world.final(world.nodes[0], lease, 24, 5_000)
    world.settle()
    assert purses(world) == (GRANTED - 24_500, 0, 22_050)


def test_the_provider_sees_what_is_kept_for_him(world: World) -> None:
    anything = cast("Any", None)
    settle = Settle(
        bus=anything, clock=anything, database=cast("Any", world.db), ledger=cast("Any", world.ledger), log=anything
    )
    run(world, begin(world), 3)
    shown = finish(settle.balance(AccountRef(account=address_text(world.nodes[0].account))))
    assert (shown.kept["granted"], shown.earned["granted"]) == (3_000, 0)


def test_who_vanishes_in_the_last_hour_of_a_day_leaves_the_buyer_with_all_of_his_money(world: World) -> None:
    lease = begin(world, time_limit_s=250)
    run(world, lease, 24)
    world.nodes[0].alive = False
    world.wait(10_000)
    world.settle()
    assert purses(world) == (GRANTED, 0, 0)
    ended = world.store.lease(lease)
    assert (ended.reason, ended.caused_by, ended.used_ms) == ("node.vanished", "provider", 0)
    assert (ended.refunded_microusd, ended.made_good_microusd) == (0, 0)  # the reserve has no part in it


def test_what_a_checkpoint_holds_is_the_providers_from_the_next_window_on(world: World) -> None:
    lease = begin(world, {"checkpoints": True})
    run(world, lease, 2)
    world.wait(3_000)
    world.save(world.nodes[0], lease, 23_000, b"1" * 32)
    world.wait(7_000)
    world.interim(world.nodes[0], lease, 2, 10_000)
    world.settle()
    assert purses(world) == (GRANTED - 4_000, 1_000, 1_800)
    world.nodes[0].alive = False
    world.wait(10_000)
    world.settle()
    assert purses(world) == (GRANTED - 2_300, 0, 2_070)  # 23 s are of use
    assert world.store.lease(lease).used_ms == 23_000


def test_a_checkpoint_at_the_border_backs_all_of_the_window(world: World) -> None:
    lease = begin(world, {"checkpoints": True})
    world.wait(10_000)
    world.save(world.nodes[0], lease, 10_000, b"1" * 32)
    world.interim(world.nodes[0], lease, 0, 10_000)
    world.settle()
    assert purses(world) == (GRANTED - 2_000, 0, 900)


def test_what_runs_until_it_is_stopped_is_paid_window_by_window(world: World) -> None:
    lease = begin(world, until_stopped=True)
    run(world, lease, 3)
    assert purses(world) == (GRANTED - 4_000, 0, 2_700)
    world.nodes[0].alive = False
    world.wait(10_000)
    world.settle()
    assert purses(world) == (GRANTED - 3_000, 0, 2_700)


@pytest.mark.parametrize("budget", [None, 3_500])
def test_a_buyer_whose_money_runs_out_pays_for_what_was_done(world: World, budget: int | None) -> None:
    """That the work breaks off is his doing: the wallet, or the budget, does not cover the fourth window."""
    buyer = world.buyers[1]
    world.grant(buyer, 3_500 if budget is None else 10_000)
    world.submit(order(1, budget_microusd=budget, time_limit_s=250), buyer)
    world.round()
    (lease,) = accept_all(world)
    ended = run(world, lease, 3)
    cause = "buyer.insufficient_funds" if budget is None else "buyer.budget"
    assert (ended.reason, ended.caused_by, ended.used_ms, ended.owed_microusd) == (cause, "buyer", 30_000, 3_000)
    assert has(world, Purpose.EARNED, world.nodes[0].account) == 2_700
    assert has(world, Purpose.UNBACKED, world.nodes[0].account) == 0


def test_who_cancels_pays_for_what_was_done(world: World) -> None:
    lease = begin(world)
    run(world, lease, 2)
    world.cancel(order(1).id, world.buyers[0])
    world.settle()
    world.final(world.nodes[0], lease, 2, 4_000, ok=False, result=None, reason="buyer.cancelled", caused_by="nobody")
    world.settle()
    assert purses(world) == (GRANTED - 2_000, 0, 1_800)


def test_a_wrong_result_costs_nothing_of_its_earlier_windows_either(world: World) -> None:
    world.fund(GRANTED)
    world.offer(world.nodes[2], BIG, CHEAP)
    world.offer(world.nodes[4], BIG, CHEAP)
    world.settle()
    submit(world, order(1, work=COMPARES, replicas=3, time_limit_s=250))
    leases = accept_all(world)
    nodes = {node.id: node for node in world.nodes}
    owners = [nodes[world.brain.leases[lease].node] for lease in leases]
    for window in range(3):
        world.wait(10_000)
        for node, lease in zip(owners, leases, strict=True):
            world.interim(node, lease, window, 10_000)
        world.settle()
    for node, lease, result in zip(owners, leases, (b"1" * 32, b"1" * 32, b"2" * 32), strict=True):
        world.final(node, lease, 3, 1_000, result=result)
    world.settle()
    wrong = world.store.lease(leases[2])
    assert (wrong.reason, wrong.used_ms, wrong.owed_microusd, wrong.refunded_microusd) == ("result.wrong", 0, 0, 0)
    (job,) = world.store.all_jobs()
    (item,) = world.store.items_of(job)
    assert (job.state, item.state) == (JobState.DONE, ItemState.DONE)
    assert item.owed_microusd == sum(world.store.lease(lease).owed_microusd for lease in leases[:2]) == 6_000
