"""What the market does in the cases that a random search rarely meets, one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest

from fallow.adapters.memory.database import MemoryTransaction
from fallow.domain.chart import Credit, chain, give_back, hold, purse_id
from fallow.domain.errors import Unavailable
from fallow.domain.jobs import JobState, Needs
from fallow.domain.leases import Lease, LeaseState
from fallow.domain.ledger import Transfer
from fallow.domain.offers import LOST_AFTER_MS, REBOOT_GRACE_MS
from fallow.domain.orders import Requirements
from fallow.domain.resources import Resources, Terms
from fallow.services.market.brain import METERS_MS
from fallow.services.market.dispatch import wish_of
from fallow.services.market.money import Misposted
from fallow.services.market.show import node_view, quote, standing_view
from tests.market_twins import finish
from tests.market_world import WINDOW_MS, World, failed
from tests.unit.market_orders import BIG, CHEAP, COMPARES, accept_all, order, submit


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


def test_a_quote_names_the_budget_that_does_not_cover_the_start(world: World) -> None:
    wanted, window_ms = order(time_limit_s=3600, budget_microusd=999), 3_600_000
    shown = quote(world.brain, wish_of(wanted, Needs()), window_ms, world.now, budget_microusd=999)
    assert (shown.candidates, shown.why_not) == ([], {"budget": shown.nodes_total})
    assert quote(world.brain, wish_of(wanted, Needs()), window_ms, world.now, budget_microusd=10**9).candidates


def test_a_refused_transfer_is_named_with_its_own_cause(world: World) -> None:
    """A chain fails as a whole: what stands before the cause in it is refused, too, and says nothing."""
    lease, purse = lease_of(world), purse_id(Credit.GRANTED, world.buyers[0])
    with pytest.raises(Unavailable, match=r"exceeds_credits \(window [0-9a-f]{32}\)") as caught:
        post(world, too_much(world, lease), {lease.id: lease}, {purse: 10**18})
    assert caught.value.code == "market.money_raced"
    assert too_much(world, lease)[1].id.hex() in caught.value.message


def test_what_nobody_else_can_have_spent_is_a_bug(world: World) -> None:
    """The same is refused although the same was there before, or what is short is taken from by the market alone."""
    lease, purse = lease_of(world), purse_id(Credit.GRANTED, world.buyers[0])
    refusals: tuple[tuple[list[Transfer], dict[bytes, int], type[Exception]], ...] = (
        (too_much(world, lease), {purse: 10**18}, Unavailable),
        (too_much(world, lease), {purse: 10**18 - 1}, Unavailable),
        (too_much(world, lease), {purse: 10**18 - 1}, Misposted),
        (too_much(world, lease), {}, Misposted),
        (give_back(lease.id, 7, ((Credit.GRANTED.value, 1),)), {purse: 10**18}, Misposted),
    )
    for transfers, seen, error in refusals:
        with pytest.raises(error):
            post(world, transfers, {lease.id: lease}, seen)


def test_once_the_purse_pays_it_may_be_raced_again(world: World) -> None:
    lease, purse = lease_of(world), purse_id(Credit.GRANTED, world.buyers[0])
    for _ in range(2):
        with pytest.raises(Unavailable):
            post(world, too_much(world, lease), {lease.id: lease}, {purse: 10**18})
        post(world, hold(lease.id, 9, world.buyers[0], ((Credit.GRANTED.value, 1),)), {lease.id: lease}, {})


def lease_of(world: World) -> Lease:
    submit(world, order())
    (lease,) = world.brain.leases.values()
    return lease


def too_much(world: World, lease: Lease) -> list[Transfer]:
    amounts = {1: 1, 2: 10**12}
    holds = [hold(lease.id, window, world.buyers[0], ((1, amount),)) for window, amount in amounts.items()]
    return chain([entry for one in holds for entry in one])


def post(world: World, transfers: Sequence[Transfer], leases: Mapping[bytes, Lease], seen: Mapping[bytes, int]) -> None:
    """Have the cashier post; `seen` is what it has read before."""
    finish(world.rounds._cashier._post(cast("Any", MemoryTransaction()), transfers, leases, seen, world.now))


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


def test_a_meter_is_kept_as_long_as_somebody_may_be_charged_by_it(world: World) -> None:
    """Its offer stands, or a lease runs by it. Afterwards it is dropped, and the money still adds up."""
    submit(world, order(1, time_limit_s=604_800))
    (lease,) = accept_all(world)
    world.wait(5_000)
    world.interim(world.nodes[0], lease, 0, 5_000)
    world.settle()
    (key,) = world.store.meters
    for last, kept in ((False, True), (False, True), (True, False)):
        world.offer(world.nodes[0], BIG, CHEAP)
        if last:
            world.final(world.nodes[0], lease, 1, 5_000)
        world.settle()
        world.wait(METERS_MS)
        world.settle()
        assert (key in world.store.meters) == kept
    assert key not in world.brain.meters
    submit(world, order(2))
    (other,) = [one for one in world.brain.leases.values() if one.job == order(2).id]
    assert other.price_version != key[2]


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
    submit(world, order(requirements=Requirements(cpu_milli=4000)))
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
    wanted = order(items=9000, time_limit_s=1, requirements=Requirements(cpu_milli=1, memory_mib=1, disk_mib=1))
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
