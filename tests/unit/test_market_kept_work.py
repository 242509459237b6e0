"""Work that outlives a lease: checkpoints, and processes that run until they are stopped."""

from __future__ import annotations

from typing import Any

from fallow.domain.jobs import ItemState, JobState
from fallow.domain.leases import CHECKPOINT_UNUSABLE
from fallow.domain.offers import LOST_AFTER_MS, REBOOT_GRACE_MS
from fallow.domain.orders import UNTIL_STOPPED_S
from fallow.services.market.brain import RENEW_BEFORE_MS
from tests.market_world import World
from tests.unit.market_orders import BIG, CHEAP, COMPARES, accept_all, order, run_for, submit


def test_a_lost_item_goes_on_from_its_last_checkpoint(world: World) -> None:
    wanted = order(work={"checkpoints": True})
    submit(world, wanted)
    (lease,) = accept_all(world)
    world.wait(3000)
    world.save(world.nodes[0], lease, 1000, b"1" * 32)
    world.save(world.nodes[0], lease, 3000, b"2" * 32)
    world.save(world.nodes[0], lease, 2000, b"3" * 32)  # what is behind the last one is refused
    world.final(world.nodes[0], lease, 0, 3000, ok=False, result=None, caused_by="provider", reason="node.failed")
    world.settle()
    (after,) = world.brain.leases.values()
    assert (after.resume, after.saved_ms) == ((b"2" * 32).hex(), 0)
    assert [refusal.code for refusal in world.store.refusals.values()] == ["checkpoint.not_later"]


def test_a_long_job_that_is_reclaimed_at_90_percent_costs_at_most_15_percent_more(world: World) -> None:
    world.offer(world.nodes[2], BIG, CHEAP)
    owed = []
    for number, reclaimed_s in ((1, None), (2, 90)):
        submit(world, order(number, work={"checkpoints": True}))
        (lease,) = accept_all(world)
        done_s = 100
        if reclaimed_s is not None:
            run_for(world, lease, reclaimed_s)
            node = next(one for one in world.nodes if one.id == world.brain.leases[lease].node)
            fields = {"ok": False, "result": None, "caused_by": "owner", "reason": "owner.paused"}
            world.final(node, lease, reclaimed_s // 10 - 1, 10_000, **fields)
            world.settle()
            (lease,) = accept_all(world)
            done_s = 100 - reclaimed_s // 4 * 4  # it goes on from the last checkpoint, at 88 s
        run_for(world, lease, done_s)
        node = next(one for one in world.nodes if one.id == world.brain.leases[lease].node)
        last = (done_s - 1) // 10
        world.final(node, lease, last, (done_s - 10 * last) * 1000)
        world.settle()
        job = next(one for one in world.store.all_jobs() if one.order.id == order(number).id)
        assert job.state is JobState.DONE
        owed.append(world.store.items_of(job)[0].owed_microusd)
    undisturbed, reclaimed = owed
    assert undisturbed == 10_000
    assert undisturbed <= reclaimed <= 1.15 * undisturbed


def test_who_vanishes_is_paid_for_what_his_checkpoints_hold_and_no_more(world: World) -> None:
    submit(world, order(work={"checkpoints": True}))
    (lease,) = accept_all(world)
    world.wait(6000)
    world.save(world.nodes[0], lease, 5000, b"1" * 32)
    world.settle()
    world.nodes[0].alive = False
    world.wait(LOST_AFTER_MS)
    world.settle()
    lost = world.store.lease(lease)
    assert (lost.reason, lost.used_ms, lost.owed_microusd) == ("node.vanished", 5000, 500)


def test_a_process_that_its_owner_stops_politely_is_paid_for_all_that_it_ran(world: World) -> None:
    lease = serve(world)
    world.wait(3000)
    fields = {"ok": False, "result": None, "reason": "owner.paused"}
    world.final(world.nodes[0], lease, 0, 3000, caused_by="owner", **fields)
    world.settle()
    assert world.store.lease(lease).owed_microusd == 300


def test_a_checkpoint_that_is_of_no_use_is_dropped_and_harms_nobody(world: World) -> None:
    submit(world, order(work={"checkpoints": True}))
    (lease,) = accept_all(world)
    world.wait(3000)
    world.save(world.nodes[0], lease, 1000, b"1" * 32)
    world.reboot(world.nodes[0])
    world.beat(world.nodes[0])
    world.round()
    world.wait(REBOOT_GRACE_MS)
    world.settle()
    (lease,) = accept_all(world)
    world.final(world.nodes[0], lease, 0, 0, ok=False, result=None, reason=CHECKPOINT_UNUSABLE)
    world.settle()
    (after,) = world.brain.leases.values()
    assert after.resume is None
    assert (world.store.all_leases()[1].caused_by, world.store.all_leases()[1].owed_microusd) == ("nobody", 0)


def test_what_is_nobodys_fault_costs_nobody_and_the_item_goes_on(world: World) -> None:
    submit(world, order(work=COMPARES))
    (lease,) = accept_all(world)
    world.wait(3000)
    world.final(world.nodes[0], lease, 0, 900, ok=False, result=None, reason="network.away", caused_by="nobody")
    world.settle()
    (ended,) = world.store.all_leases()[:1]
    assert (ended.reason, ended.caused_by, ended.owed_microusd) == ("network.away", "nobody", 0)
    (again,) = world.brain.leases.values()
    assert (again.job, again.item) == (ended.job, ended.item)
    assert world.brain.jobs[ended.job].items[0].shunned == ()


def test_only_work_that_keeps_checkpoints_has_any(world: World) -> None:
    submit(world, order(work=COMPARES))
    (lease,) = accept_all(world)
    world.wait(3000)
    world.save(world.nodes[0], lease, 1000, b"1" * 32)
    world.settle()
    assert world.brain.jobs[order().id].items[0].checkpoint is None
    assert [refusal.code for refusal in world.store.refusals.values()] == ["checkpoint.unwanted"]


def serve(world: World, **fields: Any) -> bytes:
    """A process that runs until stopped, on the first node."""
    submit(world, order(until_stopped=True, **fields))
    (lease,) = accept_all(world)
    return lease


def test_a_process_runs_until_its_buyer_stops_it_and_that_is_its_success(world: World) -> None:
    lease = serve(world, time_limit_s=1)
    for window in range(3):
        world.wait(10_000)
        world.interim(world.nodes[0], lease, window, 10_000)
        world.settle()
    world.cancel(order().id, world.buyers[0])
    world.round()
    assert world.sent.stops == [(world.nodes[0].id, lease)]
    world.wait(1000)
    world.final(world.nodes[0], lease, 3, 1000, ok=False, reason="buyer.cancelled", caused_by="buyer")
    world.settle()
    (job,) = world.store.all_jobs()
    (item,) = world.store.items_of(job)
    assert (job.state, item.state, item.owed_microusd) == (JobState.DONE, ItemState.DONE, 3100)
    assert item.result == bytes(32).hex()


def test_a_process_that_ends_by_itself_is_started_again_as_often_as_the_buyer_asked(world: World) -> None:
    lease = serve(world, retries=1)
    world.final(world.nodes[0], lease, 0, 0)
    world.settle()
    (lease,) = accept_all(world)
    world.final(world.nodes[0], lease, 0, 0)
    world.settle()
    (job,) = world.store.all_jobs()
    assert (job.state, world.store.items_of(job)[0].reason) == (JobState.FAILED, "program.exited")


def test_a_process_moves_on_when_its_node_is_lost_however_often(world: World) -> None:
    lease = serve(world)
    for _ in range(20):
        world.wait(10_000)
        world.interim(world.nodes[0], lease, 0, 10_000)
        world.settle()
        world.final(world.nodes[0], lease, 1, 0, ok=False, result=None, caused_by="provider", reason="node.failed")
        world.settle()
        (lease,) = accept_all(world)
    assert world.brain.jobs[order().id].items[0].state is ItemState.RUNNING


def test_a_process_whose_buyer_cannot_pay_stops_and_waits_for_money(world: World) -> None:
    buyer = world.buyers[1]
    world.grant(buyer, 2500)  # a window of 10 s costs 1000
    world.submit(order(until_stopped=True), buyer)
    world.round()
    (lease,) = accept_all(world)
    for window in range(2):
        world.wait(10_000)
        world.interim(world.nodes[0], lease, window, 10_000)
        world.settle()
    (item,) = world.brain.jobs[order().id].items.values()
    assert (item.state, item.reason, item.owed_microusd) == (ItemState.WAITING, "buyer.insufficient_funds", 2000)
    assert (world.nodes[0].id, lease) in world.sent.stops
    world.grant(buyer, 1000)
    world.settle()
    assert world.brain.jobs[order().id].items[0].state is ItemState.PLACED


def test_a_process_gets_another_lease_before_the_old_one_is_over(world: World) -> None:
    lease = serve(world)
    world.wait(UNTIL_STOPPED_S * 1000 - RENEW_BEFORE_MS)
    world.settle()
    assert (world.nodes[0].id, lease) in world.sent.stops
    world.cancels.clear()
    world.final(world.nodes[0], lease, 0, 10_000, ok=False, reason="buyer.cancelled", caused_by="buyer")
    world.settle()
    (old,) = [one for one in world.store.all_leases() if one.id == lease]
    assert (old.reason, old.caused_by, old.owed_microusd) == ("lease.renewed", "network", 1000)
    assert world.brain.jobs[order().id].items[0].state is ItemState.PLACED
