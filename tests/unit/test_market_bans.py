"""Bans: what they end at once, and what they leave alone."""

from __future__ import annotations

from fallow.domain.jobs import JobState, Needs
from fallow.domain.leases import WORK_DONE, LeaseState
from fallow.domain.orders import Requirements
from fallow.services.market.dispatch import wish_of
from fallow.services.market.show import quote
from tests.market_twins import TERM, finish
from tests.market_world import World, failed
from tests.unit.market_orders import BIG, CHEAP, COMPARES, accept_all, order, submit


def test_a_banned_node_loses_its_work_at_once_and_nobody_pays_for_it(world: World) -> None:
    submit(world, order(items=2))
    first, second = accept_all(world)
    world.wait(1000)
    world.final(world.nodes[0], first, 0, 1000)  # finished before the ban, and read after it
    world.ban(world.nodes[0].id)
    world.offer(world.nodes[1], BIG, CHEAP)
    world.settle()
    assert (world.store.lease(first).owed_microusd, world.store.lease(first).reason) == (100, WORK_DONE)
    gone = world.store.lease(second)
    assert (gone.state, gone.reason, gone.caused_by) == (LeaseState.ENDED, "operator.banned", "network")
    assert gone.owed_microusd == 0
    assert (world.nodes[0].id, second) in world.sent.stops
    (again,) = world.brain.leases.values()
    assert (again.item, again.node) == (1, world.nodes[1].id)
    assert world.brain.jobs[order().id].items[1].shunned == ()


def test_a_banned_nodes_result_that_waits_to_be_checked_is_judged_and_paid(world: World) -> None:
    world.fund(1_000_000)
    submit(world, order(work=COMPARES))
    (lease,) = accept_all(world)
    world.wait(1000)
    world.offer(world.nodes[2], BIG, CHEAP)
    world.final(world.nodes[0], lease, 0, 1000)
    world.settle()
    world.ban(world.nodes[0].id)
    world.settle()
    assert world.brain.leases[lease].state is LeaseState.REPORTED
    (other,) = accept_all(world)
    world.wait(1000)
    world.final(world.nodes[2], other, 0, 1000)
    world.settle()
    assert world.store.lease(lease).owed_microusd == 100


def test_a_banned_node_gets_no_work_until_it_is_let_in_again(world: World) -> None:
    world.ban(world.nodes[0].account)  # with its account
    world.settle()
    submit(world, order())
    assert not world.brain.leases
    shown = quote(world.brain, wish_of(order(), Needs()), 60, world.now)
    assert shown.why_not == {"banned": 1}
    world.restart()
    world.settle()
    assert not world.brain.leases
    world.ban()
    world.settle()
    assert len(world.brain.leases) == 1


def test_a_banned_buyers_jobs_end_and_what_was_used_is_paid(world: World) -> None:
    wanted = order(items=2, requirements=Requirements(cpu_milli=8000))
    submit(world, wanted)
    (lease,) = accept_all(world)
    world.wait(1000)
    world.ban(world.buyers[0])
    again = world.submit(wanted, world.buyers[0])
    world.round()
    fresh = world.submit(order(2), world.buyers[0])
    world.round()
    assert (failed(again), failed(fresh)) == ("", "account.banned")
    world.final(world.nodes[0], lease, 0, 1000, ok=False, result=None, reason="buyer.cancelled", caused_by="buyer")
    world.settle()
    (job,) = world.store.all_jobs()
    assert job.state is JobState.CANCELLED
    assert {item.reason for item in world.store.items_of(job)} == {"operator.banned"}
    assert world.store.lease(lease).owed_microusd == 800


def test_a_ban_whose_message_was_lost_is_seen_when_the_term_is_renewed(world: World) -> None:
    world.registry.bans = frozenset({world.nodes[0].id})
    submit(world, order())
    assert world.brain.leases
    finish(world.rounds._renew(TERM))
    world.settle()
    assert not world.brain.leases
