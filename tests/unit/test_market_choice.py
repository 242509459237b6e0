"""Which node gets the work: who may, who comes first, who is left in peace."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from fallow.adapters.memory.database import MemoryTransaction
from fallow.domain.chart import accounts_of
from fallow.domain.jobs import AGAIN_DOUBLINGS_MAX, AGAIN_MS, ItemState, JobState, Needs
from fallow.domain.leases import LeaseState
from fallow.domain.matching import why_not
from fallow.domain.offers import COOL_DOUBLINGS_MAX, COOL_MS, LOST_AFTER_MS, REBOOT_GRACE_MS
from fallow.domain.orders import Order, Requirements
from fallow.domain.resources import Resources, Terms
from fallow.domain.verification import Standing
from fallow.services.market.dispatch import wish_of
from fallow.services.market.show import quote
from tests.market_twins import TERM, finish
from tests.market_world import WINDOW_MS, World, failed
from tests.unit.market_orders import BIG, CHEAP, COMPARES, accept_all, order, submit


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
    answer = world.submit(order(requirements=Requirements(trust_min="proven")), world.buyers[0])
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
    wanted = order(requirements=Requirements(trust_min="own"), work={"compares": True, "secrets": True})
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
    submit(world, order(items=9, requirements=Requirements(leases_per_owner_max=2)))
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
    world.prove(world.nodes[3])
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


# What nobody is to blame for


def give_back(world: World) -> int:
    """Whoever has the item begins it and says that it cannot be done, by nobody's fault; returns which node it was."""
    (lease,) = world.brain.leases.values()
    number = [node.id for node in world.nodes].index(lease.node)
    world.accept(world.nodes[number], lease.id)
    world.settle()
    world.final(world.nodes[number], lease.id, 0, 0, ok=False, reason="image.unavailable", caused_by="nobody")
    world.settle()
    return number


def test_what_a_node_gives_back_by_nobodys_fault_goes_elsewhere_and_is_tried_ever_more_rarely(world: World) -> None:
    for node in world.nodes[1:3]:
        world.offer(node, BIG, CHEAP)
    submit(world, order())
    asked = [give_back(world), give_back(world)]
    waits = []
    for _ in range(AGAIN_DOUBLINGS_MAX + 4):
        (item,) = world.brain.jobs[order().id].items.values()
        assert not world.brain.leases, "it waits"
        assert (item.state, item.reason, item.shunned) == (ItemState.WAITING, "image.unavailable", ())
        waits.append(item.again_at - world.now)
        for node in world.nodes[:3]:
            world.beat(node)
        world.wait(waits[-1])
        for node in world.nodes[:3]:
            world.beat(node)
        world.settle()
        asked.append(give_back(world))
    assert set(asked[:3]) == {0, 1, 2}, "each has a try before one has another"
    assert waits == [AGAIN_MS << min(times, AGAIN_DOUBLINGS_MAX) for times in range(len(waits))]
    assert {world.brain.judging.standing(node.id) for node in world.nodes[:3]} == {Standing()}
