"""What the reserve pays for lost work, and that nobody gets more out of it than use of him paid in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.chart import Credit
from fallow.domain.leases import Lease
from fallow.domain.reserve import EXHAUSTED, NOT_EARNED, cover
from tests.market_world import World
from tests.unit.market_orders import BIG, CHEAP, accept_all, order, run_for, submit

AMOUNTS = st.integers(0, 10**30)
BY_CREDIT = st.dictionaries(st.sampled_from([int(credit) for credit in Credit]), AMOUNTS)


@given(AMOUNTS, BY_CREDIT, BY_CREDIT, BY_CREDIT)
def test_no_class_gives_more_than_was_paid_in_it_than_is_there_or_than_was_earned(
    amount: int, parts: dict[int, int], reserve: dict[int, int], earned: dict[int, int]
) -> None:
    given_ = cover(amount, tuple(sorted(parts.items())), reserve, earned)
    assert given_.total <= amount
    for credit, part in given_.parts:
        assert 0 < part <= min(parts[credit], reserve[credit], earned[credit])
    assert given_.short or given_.total == min(amount, sum(parts.values()))


@pytest.fixture
def world() -> World:
    """The first node has earned 9,000 and its use paid 1,000 in fees, of which 200 are the reserve's."""
    world = World(nodes=6)
    world.grant(world.buyers[0], 1_000_000)
    world.offer(world.nodes[0], BIG, CHEAP)  # a window of 10 s costs 1000
    world.round()
    submit(world, order(1))
    (lease,) = accept_all(world)
    run_for(world, lease, 100)
    world.final(world.nodes[0], lease, 9, 10_000)
    world.settle()
    return world


def lose(world: World, number: int, caused_by: str) -> Lease:
    """A job without checkpoints is broken off in the middle of its second window."""
    submit(world, order(number, work={}))
    (lease,) = accept_all(world)
    world.wait(10_000)
    world.interim(world.nodes[0], lease, 0, 10_000)
    world.settle()
    world.wait(5000)
    fields = {"ok": False, "result": None, "reason": "owner.paused"}
    world.final(world.nodes[0], lease, 1, 5000, caused_by=caused_by, **fields)
    world.settle()
    world.cancel(order(number).id, world.buyers[0])
    world.settle()
    world.wait(100_000)  # whoever gives work back is left in peace for a while
    world.settle()
    return world.store.lease(lease)


def owed(world: World, number: int) -> int:
    job = next(job for job in world.store.all_jobs() if job.order.id == order(number).id)
    return world.store.items_of(job)[0].owed_microusd


def test_after_a_polite_reclaim_the_buyer_pays_nothing_and_the_provider_is_made_good(world: World) -> None:
    world.fund_reserve(1_000_000)
    lost = lose(world, 2, "owner")
    assert (lost.owed_microusd, lost.used_ms, owed(world, 2)) == (0, 0, 0)
    # Of the 1350 that 15 s would have brought him he gets half of the fees that use of him paid.
    assert (lost.made_good_microusd, lost.reserve_short) == (500, NOT_EARNED)


def test_after_a_providers_fault_nobody_pays_for_what_he_lost(world: World) -> None:
    world.fund_reserve(1_000_000)
    lost = lose(world, 2, "provider")
    assert (lost.owed_microusd, lost.made_good_microusd, owed(world, 2)) == (0, 0, 0)


def test_what_was_nobodys_fault_is_made_good_as_far_as_windows_were_closed(world: World) -> None:
    world.fund_reserve(1_000_000)
    lost = lose(world, 2, "nobody")
    assert (lost.owed_microusd, lost.made_good_microusd, lost.reserve_short) == (0, 500, NOT_EARNED)


def test_an_empty_reserve_owes_nothing_and_says_so(world: World) -> None:
    lost = lose(world, 2, "owner")
    assert (lost.owed_microusd, lost.made_good_microusd, lost.reserve_short) == (0, 200, EXHAUSTED)


def test_who_takes_his_machine_back_for_ever_gets_no_more_than_use_of_him_paid(world: World) -> None:
    """The world checks the bound after each round; here it is reached, and nothing more comes."""
    world.fund_reserve(1_000_000)
    losses = [lose(world, number, "owner") for number in range(2, 8)]
    assert sum(lost.made_good_microusd for lost in losses) == 500
    assert losses[-1].reserve_short == NOT_EARNED
