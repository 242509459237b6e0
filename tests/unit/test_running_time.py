"""What is shown of work while it runs, and of how it ended."""

from __future__ import annotations

from functools import partial

from fallow.domain.leases import WORK_DONE
from fallow.domain.views.jobs import ItemView, JobView
from fallow.services.market.show import item_view, job_view, lease_view
from tests.market_world import WINDOW_MS, World
from tests.unit.market_orders import BIG, CHEAP, COMPARES, accept_all, order, submit


def shown(world: World) -> tuple[JobView, ItemView]:
    (job,) = world.store.all_jobs()
    running_of = partial(world.brain.running_ms, now=world.now)
    items = world.store.items_of(job)
    return job_view(job, items, 0, lambda _: "new", running_of), item_view(items[0], lambda _: "new", running_of)


def test_what_runs_shows_how_long_and_what_ended_what_it_used_and_why(world: World) -> None:
    submit(world, order())
    job, item = shown(world)
    assert (job.running_ms, item.running_ms) == (0, 0)
    (lease,) = accept_all(world)
    world.wait(3000)
    job, item = shown(world)
    assert (job.running_ms, item.running_ms, item.used_ms) == (3000, 3000, 0)
    seen = lease_view(world.store.lease(lease), world.now)
    assert (seen.running_ms, seen.used_ms, seen.reason) == (3000, 0, "")
    world.wait(WINDOW_MS - 3000)
    world.interim(world.nodes[0], lease, 0, WINDOW_MS)
    world.wait(2000)
    world.settle()
    _, item = shown(world)
    assert (item.running_ms, item.used_ms) == (WINDOW_MS + 2000, 0)
    world.final(world.nodes[0], lease, 1, 2000)
    world.settle()
    job, item = shown(world)
    assert (job.running_ms, item.running_ms, item.used_ms) == (0, 0, WINDOW_MS + 2000)
    seen = lease_view(world.store.lease(lease), world.now)
    assert (seen.state, seen.running_ms, seen.used_ms) == ("ended", 0, WINDOW_MS + 2000)
    assert (seen.reason, seen.caused_by) == (WORK_DONE, "nobody")


def test_the_time_of_a_check_that_the_network_pays_is_not_the_buyers(world: World) -> None:
    world.offer(world.nodes[2], BIG, CHEAP)
    world.fund(1_000_000)
    submit(world, order(work=COMPARES))
    first, *_ = accept_all(world)
    world.wait(1000)
    world.final(next(node for node in world.nodes if node.id == world.store.lease(first).node), first, 0, 1000)
    world.settle()
    assert accept_all(world), "a new node is checked"
    world.wait(5000)
    assert shown(world)[1].running_ms == 0
