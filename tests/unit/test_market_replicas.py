"""Items that several nodes work on, and results that are compared."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest

from fallow.domain.errors import InvalidInput
from fallow.domain.jobs import Item, ItemState, JobState, Needs, check_comparison
from fallow.domain.resources import Terms
from fallow.services.market.inputs import Submission
from tests.market_world import World, failed
from tests.unit.market_orders import BIG, CHEAP, COMPARES, accept_all, order, submit


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
