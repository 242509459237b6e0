"""What the market does in the cases that a random search rarely meets, one by one."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from typing import Any, cast

import msgspec
import pytest

from fallow.adapters.memory.database import MemoryTransaction
from fallow.domain.chart import Credit, accounts_of, chain, hold
from fallow.domain.errors import InvalidInput, Unavailable
from fallow.domain.jobs import Item, ItemState, JobState, Needs, check_comparison
from fallow.domain.leases import CHECKPOINT_UNUSABLE, LeaseState
from fallow.domain.matching import why_not
from fallow.domain.offers import COOL_DOUBLINGS_MAX, COOL_MS, LOST_AFTER_MS, REBOOT_GRACE_MS
from fallow.domain.orders import UNTIL_STOPPED_S, Order, Requirements
from fallow.domain.resources import Resources, Terms
from fallow.domain.verification import TRUSTED_AFTER, Standing
from fallow.services.market.brain import RENEW_BEFORE_MS
from fallow.services.market.dispatch import wish_of
from fallow.services.market.rounds import Submission
from fallow.services.market.show import node_view, quote, standing_view
from tests.market_world import TERM, WINDOW_MS, World, failed, finish

BIG = Resources(cpu_milli=8000, memory_mib=8000, disk_mib=8000)
CHEAP = Terms(price_microusd_per_core_hour=360_000)  # 100 micro-US-dollars a second
COMPARES = {"compares": True}


def order(number: int = 1, items: int = 0, work: dict[str, Any] | None = None, **fields: object) -> Order:
    hashes = [f"{index:064x}" for index in range(items)]
    return Order(id=f"{number:032x}", vertical="compute", work=work or {}, items=hashes, **fields)  # type: ignore[arg-type]


@pytest.fixture
def world() -> World:
    """Six nodes of three owners, of which the first has an offer; the first buyer has a dollar."""
    world = World(nodes=6)
    world.grant(world.buyers[0], 1_000_000)
    world.offer(world.nodes[0], BIG, CHEAP)
    world.round()
    return world


def submit(world: World, wanted: Order) -> None:
    answer = world.submit(wanted, world.buyers[0])
    world.round()
    assert not failed(answer)


def accept_all(world: World) -> list[bytes]:
    nodes = {node.id: node for node in world.nodes}
    proposed = [lease for lease in world.brain.leases.values() if lease.state is LeaseState.PROPOSED]
    for lease in proposed:
        world.accept(nodes[lease.node], lease.id)
    world.round()
    return [lease.id for lease in proposed]


def test_an_order_again_in_the_round_that_cancels_it_answers_and_begins_nothing(world: World) -> None:
    world.nodes[0].alive = False
    world.wait(LOST_AFTER_MS)
    submit(world, order())
    world.cancel(order().id, world.buyers[0])
    answer = world.submit(order(), world.buyers[0])
    world.settle()
    assert answer.value.state is JobState.CANCELLED
    assert not world.brain.jobs


def test_a_budget_bounds_all_windows_of_a_lease(world: World) -> None:
    submit(world, order(time_limit_s=30, budget_microusd=1500))  # a window of 10 s costs 1000
    (lease,) = accept_all(world)
    world.wait(10_000)
    world.interim(world.nodes[0], lease, 0, 10_000)
    world.settle()
    (job,) = world.store.all_jobs()
    (item,) = world.store.items_of(job)
    assert (job.state, item.reason, item.owed_microusd) == (JobState.FAILED, "buyer.budget", 1000)


def test_items_wait_for_a_cheaper_node_that_is_known_although_a_dear_one_is_free(world: World) -> None:
    world.offer(world.nodes[2], BIG, Terms(price_microusd_per_core_hour=720_000))
    submit(world, order(number=9, items=8, time_limit_s=10))  # fills the cheap node
    submit(world, order(items=2, time_limit_s=10, budget_microusd=1999))  # 1000 on the cheap one, 2000 on the other
    entry = world.brain.jobs[order().id]
    assert {item.state for item in entry.items.values()} == {ItemState.WAITING}
    world.nodes[0].alive = False  # away for a while, but known
    world.wait(LOST_AFTER_MS)
    world.settle()
    assert {item.state for item in entry.items.values()} == {ItemState.WAITING}
    world.offer(world.nodes[0], BIG, Terms(price_microusd_per_core_hour=720_000))
    world.settle()
    (job,) = [job for job in world.store.all_jobs() if job.order.id == order().id]
    assert (job.state, {item.reason for item in world.store.items_of(job)}) == (JobState.FAILED, {"buyer.budget"})


def test_a_quote_says_what_the_first_window_reserves(world: World) -> None:
    wanted = order(time_limit_s=3600)
    submit(world, wanted)
    shown = quote(world.brain, wish_of(wanted, Needs()), world.rounds.first_window_ms(wanted), world.now)
    (lease,) = world.brain.leases.values()
    assert shown.deposit_microusd == sum(amount for _, amount in lease.held) == 1000
    assert world.rounds.first_window_ms(order(time_limit_s=5)) == 5000


def test_a_quote_counts_owners_on_networks_of_their_own(world: World) -> None:
    def owners() -> int:
        return quote(world.brain, wish_of(order(), Needs()), WINDOW_MS, world.now).owners

    assert owners() == 1
    for node in world.nodes[1:]:
        world.offer(node, BIG, CHEAP)
    world.round()
    assert owners() == 3, "six nodes of three owners"
    networks = world.brain.floor.networks
    networks.update(dict.fromkeys([node.id for node in world.nodes], "192.0.2.0/24"))
    assert owners() == 1
    networks.clear()
    assert owners() == 3, "where nothing is observed, owners alone count"


@pytest.mark.parametrize(
    ("says", "needs", "code"),
    [
        ({"replicas": 3}, Needs(), "order.replicas"),
        ({"replicas": 3, "compare": "none"}, Needs(proves=True), "order.replicas"),
        ({"compare": "exact"}, Needs(compares=True, proves=False), "order.compare"),
        ({"compare": "exact", "until_stopped": True}, Needs(proves=True), "order.compare"),
        ({"compare": "exact", "replicas": 2}, Needs(compares=True, proves=False), ""),
        ({"replicas": 3}, Needs(compares=True, proves=True), ""),
        ({"compare": "exact"}, Needs(compares=True, proves=True), ""),
        ({}, Needs(), ""),
    ],
)
def test_results_that_nothing_would_compare_are_not_sold(says: dict[str, Any], needs: Needs, code: str) -> None:
    with pytest.raises(InvalidInput) if code else nullcontext() as caught:
        check_comparison(order(**says), needs)
    assert caught is None or caught.value.code == code


def test_a_quote_names_the_budget_that_does_not_cover_the_start(world: World) -> None:
    wanted, window_ms = order(time_limit_s=3600, budget_microusd=999), 3_600_000
    shown = quote(world.brain, wish_of(wanted, Needs()), window_ms, world.now, budget_microusd=999)
    assert (shown.candidates, shown.why_not) == ([], {"budget": shown.nodes_total})
    assert quote(world.brain, wish_of(wanted, Needs()), window_ms, world.now, budget_microusd=10**9).candidates


def test_a_refused_transfer_is_named_with_its_own_cause(world: World) -> None:
    """A chain fails as a whole: what stands before the cause in it is refused, too, and says nothing."""
    holds = [
        hold(bytes(16), window, world.buyers[0], ((Credit.GRANTED.value, 10**12 * window + 1),)) for window in (0, 1)
    ]
    transfers = chain([entry for one in holds for entry in one])
    with pytest.raises(Unavailable, match=r"exceeds_credits \(window [0-9a-f]{32}\)") as caught:
        finish(world.rounds._cashier._post(cast("Any", MemoryTransaction()), transfers, world.now))
    assert caught.value.code == "market.money_raced"
    assert transfers[1].id.hex() in caught.value.message


def test_another_price_is_for_new_leases_only(world: World) -> None:
    """Each with a meter of its own: the price is a version of the offer."""
    submit(world, order(1, time_limit_s=25))
    (old,) = accept_all(world)
    world.offer(world.nodes[0], BIG, Terms(price_microusd_per_core_hour=720_000))
    world.settle()
    submit(world, order(2, time_limit_s=25))
    (new,) = accept_all(world)
    world.wait(10_000)
    for lease in (old, new):
        world.interim(world.nodes[0], lease, 0, 10_000)
    world.wait(5_000)
    for lease in (old, new):
        world.final(world.nodes[0], lease, 1, 5_000)
    world.settle()
    assert [world.store.lease(lease).owed_microusd for lease in (old, new)] == [1500, 3000]


def test_a_restart_forgets_nothing_that_open_leases_have_cost(world: World) -> None:
    submit(world, order(time_limit_s=30, budget_microusd=2500))
    (lease,) = accept_all(world)
    world.wait(10_000)
    world.interim(world.nodes[0], lease, 0, 10_000)
    world.settle()
    world.restart()
    entry = world.brain.jobs[order().id]
    assert (entry.spent_microusd, entry.reserved) == (0, {lease: 2000})  # what is kept, and the open window


def test_money_that_comes_free_in_the_round_in_which_it_was_short_is_used(world: World) -> None:
    """One lease's next window is refused just before another lease gives its own back."""
    buyer = world.buyers[1]
    world.grant(buyer, 1600)
    for number in (1, 2):  # 1000 for a long one, 500 for a short one
        world.submit(order(number, time_limit_s=25 if number == 1 else 5), buyer)
    world.round()
    long, short = accept_all(world)
    world.wait(5000)
    world.interim(world.nodes[0], long, 0, 5000)  # costs 500; the next window takes 1000, and 600 are there
    world.final(world.nodes[0], short, 0, 0)  # gives 500 back
    world.settle()
    assert long not in world.brain.leases
    world.wait(250)
    world.settle()
    assert any(lease.item == 0 and lease.job == order(1).id for lease in world.brain.leases.values())


def test_the_only_node_gets_an_item_again_that_it_lost(world: World) -> None:
    submit(world, order())
    accept_all(world)
    world.reboot(world.nodes[0])
    world.wait(1)
    world.round()
    world.wait(REBOOT_GRACE_MS)
    world.settle()
    (item,) = world.brain.jobs[order().id].items.values()
    assert item.shunned == (world.nodes[0].id,)
    assert item.state is ItemState.PLACED


def test_an_item_that_is_lost_again_and_again_fails(world: World) -> None:
    submit(world, order())
    for _ in range(30):
        accept_all(world)
        world.reboot(world.nodes[0])
        world.wait(1)
        world.round()
        world.wait(REBOOT_GRACE_MS)
        world.settle()
    (job,) = world.store.all_jobs()
    assert (job.state, world.store.items_of(job)[0].reason) == (JobState.FAILED, "node.restarted")


def test_an_item_is_not_lost_while_nodes_cannot_hear_the_market(world: World) -> None:
    """Nobody answers for ten minutes, or the nodes vanish before they do; then all is well again."""
    submit(world, order())
    for number in range(60):
        world.nodes[0].alive = number % 10 < 5
        world.wait(10_000)
        world.settle()
    world.nodes[0].alive = True
    world.wait(LOST_AFTER_MS)
    world.settle()
    (lease,) = accept_all(world)
    world.final(world.nodes[0], lease, 0, 0)
    world.settle()
    (job,) = world.store.all_jobs()
    assert job.state is JobState.DONE


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


def run_for(world: World, lease: bytes, seconds: int, before_s: int = 0) -> None:
    """Work honestly: a checkpoint every 4 s, a receipt for each window of 10 s."""
    node = next(one for one in world.nodes if one.id == world.brain.leases[lease].node)
    for second in range(before_s + 1, seconds + 1):
        world.wait(1000)
        if second % 4 == 0:
            world.save(node, lease, second * 1000, second.to_bytes(32, "big"))
        if second % 10 == 0 and second < seconds:
            world.interim(node, lease, second // 10 - 1, 10_000)
        world.settle()


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


def serve(world: World, **fields: int) -> bytes:
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


def test_no_job_waits_behind_one_that_fits_nowhere(world: World) -> None:
    submit(world, order(1, requirements=Requirements(cpu_milli=4000)))
    (running,) = accept_all(world)
    submit(world, order(2, items=3, requirements=Requirements(cpu_milli=8000)))
    submit(world, order(3, requirements=Requirements(cpu_milli=4000)))
    assert {lease.job for lease in world.brain.leases.values()} == {f"{1:032x}", f"{3:032x}"}
    world.final(world.nodes[0], running, 0, 1)
    world.settle()
    assert {lease.job for lease in world.brain.leases.values()} == {f"{3:032x}"}


def test_secrets_wait_for_a_proven_node_and_are_deleted_when_the_job_ends(world: World) -> None:
    wanted = order(work={"secrets": True})
    submit(world, wanted)
    assert not world.brain.leases
    job = world.brain.jobs[wanted.id].job
    assert why_not(world.brain.places(world.now), wish_of(wanted, job.needs)) == {"trust": 1}
    world.prove(world.nodes[0])
    world.restart()  # what is locked outlives the process
    world.beat(world.nodes[0])
    world.settle()
    (lease,) = accept_all(world)
    assert world.store.secrets == {wanted.id: b"locked"}
    world.final(world.nodes[0], lease, 0, 0)
    world.settle()
    assert not world.store.secrets
    assert b"locked" not in world.store.jobs[wanted.id]


def test_an_order_that_asks_for_proven_nodes_gets_no_other(world: World) -> None:
    world.offer(world.nodes[2], BIG, Terms(price_microusd_per_core_hour=720_000))
    world.prove(world.nodes[2])
    world.settle()
    answer = world.submit(order(requirements=Requirements(trust_min="proven")), world.buyers[0])  # type: ignore[arg-type]
    world.round()
    assert not failed(answer)
    (lease,) = world.brain.leases.values()
    assert lease.node == world.nodes[2].id


def test_secrets_go_to_a_machine_whose_owner_the_operator_knows(world: World) -> None:
    submit(world, order(work={"secrets": True}))
    assert not world.brain.leases
    world.registry.known = frozenset({world.nodes[0].account})
    world.restart()
    world.beat(world.nodes[0])
    world.settle()
    (lease,) = accept_all(world)
    assert world.brain.trust_of(world.brain.leases[lease].node, world.now) == "vouched"
    world.registry.known = frozenset()  # it is taken back: the next one gets none
    world.final(world.nodes[0], lease, 0, 0)
    finish(world.rounds._renew(TERM))
    submit(world, order(2, work={"secrets": True}))
    assert not world.brain.leases


def test_an_order_for_own_machines_runs_on_no_others(world: World) -> None:
    mine = world.nodes[2]
    world.buyers.append(mine.account)
    finish(world.ledger.open_accounts(MemoryTransaction(), accounts_of(mine.account)))
    world.grant(mine.account, 10**6)
    world.offer(mine, BIG, Terms(price_microusd_per_core_hour=720_000))
    wanted = order(requirements=Requirements(trust_min="own"), work={"compares": True, "secrets": True})  # type: ignore[arg-type]
    answers = [
        world.submit(wanted, mine.account),
        world.submit(msgspec.structs.replace(wanted, id="a" * 32), world.buyers[0]),
    ]
    world.settle()
    assert [failed(answer) for answer in answers] == ["", ""]
    (lease,) = world.brain.leases.values()
    assert (lease.job, lease.node) == (wanted.id, mine.id)
    wish = wish_of(wanted, Needs(), mine.account)
    shown = quote(world.brain, wish, WINDOW_MS, world.now, mine.account)
    assert [(found.node, found.trust) for found in shown.candidates] == [(mine.id.hex(), "own")]
    assert not quote(world.brain, wish_of(wanted, Needs(), world.buyers[0]), WINDOW_MS, world.now).candidates


def test_a_map_is_spread_over_owners(world: World) -> None:
    for number in (1, 2, 4):  # nodes 0 and 1 are of one owner
        world.offer(world.nodes[number], BIG, CHEAP)
    submit(world, order(items=9, requirements=Requirements(leases_per_owner_max=2)))  # type: ignore[arg-type]
    owners = Counter(lease.payee for lease in world.brain.leases.values())
    assert sorted(owners.values()) == [2, 2, 2]
    world.final(world.nodes[0], accept_all(world)[0], 0, 0)
    world.settle()
    assert len(world.brain.leases) == 6


def test_another_node_is_preferred_even_if_it_is_busy_now(world: World) -> None:
    world.offer(world.nodes[1], Resources(cpu_milli=1000, memory_mib=1000, disk_mib=1000), CHEAP)
    world.round()
    submit(world, order(1))
    (lease,) = accept_all(world)
    assert world.brain.leases[lease].node == world.nodes[1].id  # the tighter fit
    submit(world, order(2))
    (other,) = accept_all(world)
    loser = world.nodes[0]
    assert world.brain.leases[other].node == loser.id
    world.final(loser, other, 0, 0, ok=False, caused_by="provider", reason="node.failed", result=None)
    world.settle()
    (item,) = world.brain.jobs[order(2).id].items.values()
    assert item.state is ItemState.WAITING


def test_a_node_may_not_offer_less_than_nothing(world: World) -> None:
    """Neither prices nor amounts below zero: the first would make every buyer look poor."""
    world.offer(world.nodes[1], BIG, Terms(price_microusd_per_core_hour=-(10**9)))
    world.offer(world.nodes[2], Resources(cpu_milli=-1, memory_mib=-1), CHEAP)
    world.round()
    assert [refusal.code for refusal in world.store.refusals.values()] == ["record.body", "record.body"]
    told = standing_view(world.brain, world.nodes[1].id, world.store.refusals.values(), {"granted": 7}, world.now)
    assert (told.state, told.trust, told.usage_microusd) == ("unknown", "new", {"granted": 7})
    assert [one.code for one in told.refused] == ["record.body", "record.body"]
    assert standing_view(world.brain, world.nodes[0].id, [], {}, world.now).state == "idle"
    submit(world, order())
    assert len(accept_all(world)) == 1


def test_a_shrunk_offer_shows_nothing_free_rather_than_less(world: World) -> None:
    submit(world, order(requirements=Requirements(cpu_milli=4000)))  # type: ignore[arg-type]
    accept_all(world)
    world.offer(world.nodes[0], Resources(cpu_milli=1000, memory_mib=8000, disk_mib=8000), CHEAP)
    world.round()
    slot = world.brain.floor.slots[world.nodes[0].id]
    assert slot.free.cpu_milli == -3000
    view = node_view(slot, world.brain.judging.standing(world.nodes[0].id), "", world.now, trust="new", banned=False)
    assert view.free is not None
    assert view.free.cpu_milli == 0


def test_an_old_offer_that_is_read_late_does_not_make_its_node_vanish(world: World) -> None:
    submit(world, order())
    (lease,) = accept_all(world)
    world.offer(world.nodes[0], BIG, CHEAP)  # written while no market reads
    world.now += LOST_AFTER_MS + 1
    world.restart()
    world.settle()
    world.settle()
    assert world.brain.leases[lease].state is LeaseState.RUNNING


def test_a_lease_belongs_to_the_boot_that_accepted_it(world: World) -> None:
    """An agent that was started anew gets a proposal before its first beat is heard."""
    node = world.nodes[0]
    world.reboot(node)
    submit(world, order())
    (lease,) = accept_all(world)
    world.wait(1)
    world.round()
    world.wait(REBOOT_GRACE_MS)
    world.settle()
    assert world.brain.leases[lease].state is LeaseState.RUNNING


def test_an_offer_of_a_new_boot_ends_the_old_boots_leases(world: World) -> None:
    submit(world, order())
    (lease,) = accept_all(world)
    world.reboot(world.nodes[0])
    world.offer(world.nodes[0], BIG, CHEAP)
    world.round()
    world.now += REBOOT_GRACE_MS
    world.round()
    assert lease not in world.brain.leases


def test_more_money_moves_in_a_round_than_a_ledger_batch_holds(world: World) -> None:
    world.grant(world.buyers[0], 10**9)
    huge = Resources(cpu_milli=10_000_000, memory_mib=10_000_000, disk_mib=10_000_000)
    world.offer(world.nodes[0], huge, CHEAP)
    world.check = lambda: None  # type: ignore[method-assign] # slow with so many
    wanted = order(items=9000, time_limit_s=1, requirements=Requirements(cpu_milli=1, memory_mib=1, disk_mib=1))  # type: ignore[arg-type]
    submit(world, wanted)
    while world.brain.jobs[wanted.id].waiting:
        world.settle()
    assert len(world.brain.leases) == 9000
    world.now += LOST_AFTER_MS  # all at once
    assert world.round()
    assert not any(lease.held for lease in world.store.all_leases())
    assert not any(account.debits_pending for account in world.ledger.accounts.values())


def test_receipts_that_come_together_wait_for_each_others_money(world: World) -> None:
    """Three windows in one round: no window is charged before it is reserved."""
    submit(world, order(time_limit_s=30))
    (lease,) = accept_all(world)
    world.wait(25_000)
    for window in (0, 1):
        world.interim(world.nodes[0], lease, window, 10_000)
    world.final(world.nodes[0], lease, 2, 5000)
    assert world.round()
    assert world.store.all_leases()[0].window == 1
    world.settle()
    (ended,) = world.store.all_leases()
    assert (ended.state, ended.used_ms, ended.owed_microusd) == (LeaseState.ENDED, 25_000, 2500)


def test_only_its_buyer_cancels_a_job(world: World) -> None:
    submit(world, order())
    answer = world.cancel(order().id, world.buyers[1])
    world.settle()
    assert failed(answer) == "job.unknown"
    assert world.brain.jobs[order().id].job.state is JobState.RUNNING


def test_a_cancelled_item_gets_no_further_lease(world: World) -> None:
    """The second of two replicas finds no owner until after the cancel."""
    submit(world, order(work=COMPARES, replicas=2))
    (lease,) = accept_all(world)
    world.cancel(order().id, world.buyers[0])
    world.offer(world.nodes[2], BIG, CHEAP)
    world.settle()
    assert set(world.brain.leases) == {lease}
    world.final(world.nodes[0], lease, 0, 0, ok=False, caused_by="buyer", reason="buyer.cancelled", result=None)
    world.settle()
    assert [job.state for job in world.store.all_jobs()] == [JobState.CANCELLED]


def test_two_cancelled_replicas_end_one_after_the_other(world: World) -> None:
    world.offer(world.nodes[2], BIG, CHEAP)
    world.round()
    submit(world, order(work=COMPARES, replicas=2))
    leases = accept_all(world)
    assert len(leases) == 2
    nodes = {world.brain.leases[lease].node: lease for lease in leases}
    world.cancel(order().id, world.buyers[0])
    world.round()
    for node in (world.nodes[0], world.nodes[2]):
        world.final(node, nodes[node.id], 0, 0, ok=False, caused_by="buyer", reason="buyer.cancelled", result=None)
        world.settle()
    assert set(world.store.leases) == set(leases)
    assert [job.state for job in world.store.all_jobs()] == [JobState.CANCELLED]


def test_an_item_is_not_given_up_while_one_of_its_replicas_works(world: World) -> None:
    """Eight losses on one side, while the other side is still at it."""
    world.offer(world.nodes[2], BIG, CHEAP)
    world.round()
    submit(world, order(work=COMPARES, replicas=2, time_limit_s=3600))
    accept_all(world)
    (item,) = world.brain.jobs[order().id].items.values()
    kept, lost = world.nodes[0], world.nodes[2]
    entry = world.brain.jobs[order().id]
    entry.items[0] = type(item)(**{**{f: getattr(item, f) for f in item.__struct_fields__}, "shunned": (b"x",) * 7})
    lease = next(lease for lease in world.brain.leases.values() if lease.node == lost.id)
    world.final(lost, lease.id, 0, 0, ok=False, caused_by="provider", reason="node.failed", result=None)
    world.settle()
    other = next(lease for lease in world.brain.leases.values() if lease.node == kept.id)
    world.final(kept, other.id, 0, 0)
    world.settle()
    assert [job.state for job in world.store.all_jobs()] == [JobState.DONE]


def test_work_that_cannot_be_compared_is_not_compared_when_it_is_tried_again(world: World) -> None:
    for node in (world.nodes[2], world.nodes[4]):
        world.offer(node, BIG, Terms(price_microusd_per_core_hour=720_000))
    world.round()
    submit(world, order(replicas=3, retries=1))
    for ok in (False, True):
        (lease,) = accept_all(world)
        fields = {} if ok else {"ok": False, "caused_by": "buyer", "reason": "program.failed", "result": None}
        world.final(world.nodes[0], lease, 0, 0, **fields)
        world.settle()
    assert [job.state for job in world.store.all_jobs()] == [JobState.DONE]
    assert len(world.store.leases) == 2


def test_an_owner_who_takes_his_machine_back_lets_others_go_first(world: World) -> None:
    world.offer(world.nodes[2], BIG, Terms(price_microusd_per_core_hour=720_000))
    world.round()
    submit(world, order())
    (lease,) = accept_all(world)
    world.final(world.nodes[0], lease, 0, 0, ok=False, caused_by="owner", reason="owner.paused", result=None)
    world.settle()
    (placed,) = world.brain.leases.values()
    assert placed.node == world.nodes[2].id
    (ended,) = (lease for lease in world.store.all_leases() if lease.state is LeaseState.ENDED)
    assert (ended.caused_by, ended.owed_microusd) == ("owner", 0)


def test_what_a_node_said_in_time_counts_although_the_market_was_away(world: World) -> None:
    """The accept and the result were written while no market acted; the next one reads before it judges by time."""
    submit(world, order(time_limit_s=5))
    (lease,) = world.brain.leases
    world.accept(world.nodes[0], lease)
    world.now += 1000
    world.final(world.nodes[0], lease, 0, 1000)
    world.now += 100_000
    world.restart()
    world.settle()
    assert [job.state for job in world.store.all_jobs()] == [JobState.DONE]
    assert world.store.all_leases()[0].owed_microusd == 100


def test_a_round_that_was_not_written_leaves_nothing_behind(world: World) -> None:
    """Not even the belief that an account was opened in it: the same process goes on."""
    world.db.fail = True
    world.submit(order(), world.buyers[0])
    assert not world.round()
    submit(world, order())
    (lease,) = accept_all(world)
    world.now += 1000
    world.final(world.nodes[0], lease, 0, 1000)
    world.settle()
    assert [job.state for job in world.store.all_jobs()] == [JobState.DONE]
    assert world.store.all_leases()[0].owed_microusd == 100


def test_every_refused_record_says_why(world: World) -> None:
    submit(world, order())
    (lease,) = accept_all(world)
    node, other = world.nodes[:2]
    world.final(other, lease, 0, 0)
    world.accept(node, bytes(16))
    world.accept(node, lease)
    world.decline(node, lease)
    world.final(node, lease, 3, 0)
    world.settle()
    codes = [refusal.code for refusal in world.store.refusals.values()]
    assert codes == ["lease.not_open", "lease.not_open", "lease.accepted_twice", "lease.running", "window.other"]


# Who comes first


def work_once(world: World, wanted: Order) -> bytes:
    """Have a job done; returns the node that did it."""
    submit(world, wanted)
    (lease,) = accept_all(world)
    node = next(node for node in world.nodes if node.id == world.brain.leases[lease].node)
    world.wait(1)
    world.final(node, lease, 0, 1)
    world.settle()
    return node.id


@pytest.mark.parametrize("held", ["blobs", "fetched"])
def test_a_node_that_has_the_inputs_comes_first_among_equals(world: World, held: str) -> None:
    program, other = {held: ["ab" * 32]}, {held: ["cd" * 32]}
    for node in world.nodes[1:4]:
        world.offer(node, BIG, CHEAP)
    first = work_once(world, order(1, work=program, requirements=Requirements(nodes_allowed=[world.nodes[3].id.hex()])))
    assert first == world.nodes[3].id
    best = work_once(world, order(2, work=other))
    assert best != first
    assert work_once(world, order(3, work=program)) == first
    dearer = Terms(price_microusd_per_core_hour=CHEAP.price_microusd_per_core_hour + 1)
    world.offer(world.nodes[3], BIG, dearer)
    world.settle()
    assert work_once(world, order(4, work=program)) == best, "what it saves the node does not make it cheaper"
    world.offer(world.nodes[3], BIG, CHEAP)
    world.restart()
    assert work_once(world, order(5, work=program)) == best, "a new process has forgotten, and nothing breaks"


def test_an_owner_never_confirms_himself_because_his_node_has_the_inputs(world: World) -> None:
    program = {"blobs": ["ab" * 32]}
    world.offer(world.nodes[1], BIG, CHEAP)
    world.offer(world.nodes[2], BIG, CHEAP)
    assert world.nodes[0].account == world.nodes[1].account != world.nodes[2].account
    work_once(world, order(1, work=program, requirements=Requirements(nodes_allowed=[world.nodes[1].id.hex()])))
    world.fund(1_000_000)
    submit(world, order(2, work={**program, **COMPARES}, replicas=2))
    assert {lease.node for lease in world.brain.leases.values()} == {world.nodes[1].id, world.nodes[2].id}


def test_a_proven_node_comes_first_at_one_price(world: World) -> None:
    proven = world.nodes[3].id
    for node in world.nodes[1:4]:
        world.offer(node, BIG, CHEAP)
    world.settle()
    world.store.standings[proven] = msgspec.json.encode(Standing(confirmed=TRUSTED_AFTER))
    world.restart()
    world.settle()
    submit(world, order())
    assert [lease.node for lease in world.brain.leases.values()] == [proven]


# Nodes that turn work down


def turn_down(world: World) -> int:
    """The node declines what it is asked, and is left in peace for so long (milliseconds)."""
    (lease,) = world.brain.leases.values()
    world.decline(world.nodes[0], lease.id)
    world.settle()
    assert not world.brain.leases
    return world.brain.floor.slots[world.nodes[0].id].life.cool_until - world.now


def come_back(world: World) -> None:
    world.wait(0)
    world.now = max(world.now, world.brain.floor.slots[world.nodes[0].id].life.cool_until)
    world.wait(0)
    world.settle()


def test_who_declines_again_and_again_is_asked_ever_more_rarely_and_loses_no_reputation(world: World) -> None:
    submit(world, order())
    waits = []
    for _ in range(COOL_DOUBLINGS_MAX + 3):
        waits.append(turn_down(world))
        come_back(world)
    assert waits == [COOL_MS << min(times, COOL_DOUBLINGS_MAX) for times in range(len(waits))]
    assert world.brain.judging.standing(world.nodes[0].id) == Standing()
    (item,) = world.brain.jobs[order().id].items.values()
    assert item.shunned == ()
    (lease,) = accept_all(world)
    world.wait(1)
    world.final(world.nodes[0], lease, 0, 1)
    world.settle()
    submit(world, order(2))
    assert turn_down(world) == COOL_MS, "work that was finished makes it as good as new"


def test_declining_several_proposals_at_once_counts_once(world: World) -> None:
    submit(world, order(items=3))
    for lease in list(world.brain.leases.values()):
        world.decline(world.nodes[0], lease.id)
    world.settle()
    assert world.brain.floor.slots[world.nodes[0].id].life.cool_until == world.now + COOL_MS


def test_nobody_is_asked_more_rarely_because_the_network_was_deaf(world: World) -> None:
    submit(world, order())
    turn_down(world)
    world.rounds.forgive_silence()
    world.settle()
    assert len(world.brain.leases) == 1
    assert turn_down(world) == COOL_MS


# Bans


def test_a_banned_node_loses_its_work_at_once_and_nobody_pays_for_it(world: World) -> None:
    submit(world, order(items=2))
    first, second = accept_all(world)
    world.wait(1000)
    world.final(world.nodes[0], first, 0, 1000)  # finished before the ban, and read after it
    world.ban(world.nodes[0].id)
    world.offer(world.nodes[1], BIG, CHEAP)
    world.settle()
    assert (world.store.lease(first).owed_microusd, world.store.lease(first).reason) == (100, "")
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
    wanted = order(items=2, requirements=Requirements(cpu_milli=8000))  # type: ignore[arg-type]
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


def run_replicas(world: World, needs: Needs, said: list[bytes], **fields: Any) -> Item:
    """Buy one item from several owners, of which each says something else or the same; returns how it ends."""
    world.fund(1_000_000)
    for node in world.nodes[2::2]:
        world.offer(node, BIG, CHEAP)
    answer = world.ask(Submission(order(**fields), world.buyers[0], needs))
    world.round()
    assert not failed(answer)
    nodes, words = {node.id: node for node in world.nodes}, iter(said)
    for _ in said:
        for lease in accept_all(world):
            world.wait(1_000)
            world.final(nodes[world.brain.leases[lease].node], lease, 0, 1_000, result=next(words))
            world.round()
    [item] = world.store.items_of(world.store.all_jobs()[0])
    return item


SAME_IF_THE_BUYER_SAYS_SO = Needs(compares=True, proves=False)


def test_a_majority_decides_where_the_buyer_says_that_results_must_be_equal_and_all_are_paid(world: World) -> None:
    said = [b"a" * 32, b"b" * 32, b"a" * 32]
    item = run_replicas(world, SAME_IF_THE_BUYER_SAYS_SO, said, replicas=2)
    assert (item.state, item.result, item.checked) == (ItemState.DONE, said[0].hex(), True)
    leases = world.store.all_leases()
    assert [lease.payer for lease in leases] == [world.buyers[0]] * 3  # he also pays for the one that decides
    assert all(lease.owed_microusd > 0 for lease in leases)
    assert world.brain.judging.standings == {}  # a program can tell machines apart on purpose
    assert not world.store.evidence


def test_a_difference_where_machines_must_agree_is_the_fault_of_who_is_alone(world: World) -> None:
    item = run_replicas(world, Needs(compares=True), [b"a" * 32, b"b" * 32, b"a" * 32], replicas=2)
    assert item.state is ItemState.DONE
    assert [lease.owed_microusd > 0 for lease in world.store.all_leases()].count(False) == 1
    assert len(world.store.evidence) == 1
