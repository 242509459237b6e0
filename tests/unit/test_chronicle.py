"""What each hour brought: jobs that ended, and how many nodes were there."""

from __future__ import annotations

import pytest

from fallow.domain.chronicle import DAY_HOURS, DAY_MS, HOUR_MS, HOURS_KEPT, MONTH_HOURS, Chronicle, Hour
from fallow.domain.jobs import JobState
from fallow.domain.offers import LOST_AFTER_MS
from fallow.domain.views.market import EndedView, NodesOnDayView
from fallow.services.market.totals import Count, count
from tests.market_world import World
from tests.unit.market_orders import accept_all, order, submit

BEGIN = 1_000 * DAY_MS


def test_jobs_are_counted_by_outcome_in_all_and_within_whole_hours_until_now() -> None:
    kept = Chronicle({})
    kept.ended(JobState.FAILED, BEGIN)
    for hour in range(MONTH_HOURS + DAY_HOURS):
        kept.ended(JobState.DONE, BEGIN + hour * HOUR_MS)
    now = BEGIN + (MONTH_HOURS + DAY_HOURS - 1) * HOUR_MS + 5
    kept.ended(JobState.CANCELLED, now)
    assert kept.jobs(now) == Hour(done=MONTH_HOURS + DAY_HOURS, failed=1, cancelled=1)
    assert kept.jobs(now, MONTH_HOURS).done == MONTH_HOURS
    assert kept.jobs(now, DAY_HOURS) == Hour(done=DAY_HOURS, cancelled=1)
    assert kept.jobs(now + HOUR_MS, DAY_HOURS).done == DAY_HOURS - 1
    assert kept.jobs(now + 10 * MONTH_HOURS * HOUR_MS, MONTH_HOURS) == Hour()


def test_a_network_that_stood_still_for_long_loses_no_job_and_no_memory() -> None:
    kept = Chronicle({})
    for year in range(3):
        for hour in range(HOURS_KEPT):
            kept.ended(JobState.DONE, BEGIN + (year * 8_760 + hour) * HOUR_MS)
    assert len(kept.hours) == HOURS_KEPT
    now = BEGIN + (2 * 8_760 + HOURS_KEPT - 1) * HOUR_MS
    assert kept.jobs(now).done == 3 * HOURS_KEPT
    assert kept.jobs(now, MONTH_HOURS).done == MONTH_HOURS
    again = Chronicle(dict(reversed(kept.hours.items())))  # as a store gives them: in any order
    assert again.jobs(now, MONTH_HOURS) == kept.jobs(now, MONTH_HOURS)


def test_a_day_shows_the_most_nodes_and_one_that_nobody_counted_is_a_gap() -> None:
    kept = Chronicle({})
    assert kept.counted(0, BEGIN) is not None  # none is a number too
    assert kept.counted(5, BEGIN + 1) is not None
    assert kept.counted(5, BEGIN + 2) is None  # nothing to write
    kept.counted(3, BEGIN + HOUR_MS)
    kept.ended(JobState.DONE, BEGIN + DAY_MS)
    kept.counted(4, BEGIN + 2 * DAY_MS)
    now = BEGIN + 2 * DAY_MS
    assert kept.nodes_by_day(now, 30) == {1_000: 5, 1_002: 4}
    assert kept.nodes_by_day(now, 2) == {1_002: 4}
    assert kept.jobs(now).done == 1


@pytest.fixture
def counted(world: World) -> World:
    """Its nodes have been there for so long that whoever is away is known to be."""
    world.wait(2 * LOST_AFTER_MS)
    world.beat(world.nodes[0])
    world.round()
    return world


def test_a_job_counts_once_as_what_became_of_it_and_a_new_market_goes_on_from_there(counted: World) -> None:
    world = counted
    for number, ok in ((1, True), (2, False)):
        submit(world, order(number))
        (lease,) = accept_all(world)
        world.final(world.nodes[0], lease, 0, 1_000, ok=ok, caused_by="nobody" if ok else "buyer")
        world.round()
    submit(world, order(3))
    world.cancel(order(3).id, world.buyers[0])
    world.round()
    submit(world, order(4))
    world.restart()
    view = Count(world.brain, world.now).view()
    each = EndedView(ever=1, month=1, day=1)
    assert view.jobs_ended == {"done": each, "failed": each, "cancelled": each}
    assert view.jobs_open == 1


async def test_nodes_are_noted_by_day_but_not_while_the_market_believes_in_all(counted: World) -> None:
    world = counted
    world.rounds.leading.set()
    await count(world.rounds, world.now)
    world.round()
    day = world.now // DAY_MS * DAY_MS
    assert Count(world.brain, world.now).view().nodes_by_day == [NodesOnDayView(at=day, nodes=1)]
    world.restart()  # all nodes count as just heard of, also those that left long ago
    assert Count(world.brain, world.now).view().nodes_by_day == [NodesOnDayView(at=day, nodes=1)]
    world.rounds.leading.set()
    await count(world.rounds, world.now)
    assert world.rounds.inputs_waiting == 0
    await count(world.rounds, world.now + LOST_AFTER_MS)
    assert world.rounds.inputs_waiting == 1


def test_only_a_higher_number_of_nodes_is_written(counted: World) -> None:
    world = counted
    for nodes, written in ((3, True), (2, False), (3, False), (4, True)):
        world.brain.counted(world.now, nodes=nodes)
        assert world.brain.changes.to_write == written
        world.round()
