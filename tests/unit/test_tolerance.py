"""Work whose results compare by a tolerance: the market's rounds, with the comparison's answers by hand."""

from __future__ import annotations

from functools import partial

import msgspec
import pytest

from fallow.domain.draws import Purpose
from fallow.domain.jobs import Item, ItemState
from fallow.domain.leases import LeaseState
from fallow.domain.orders import Order, Tolerance
from fallow.domain.resources import Resources, Terms
from fallow.domain.verification import Compared
from fallow.services.market.brain import Brain
from tests.market_world import World, failed

BIG = Resources(cpu_milli=4000, memory_mib=8000, disk_mib=8000)
PRICE = Terms(price_microusd_per_core_hour=3_600_000)
USED_MS = 1_000
JOB = "1" * 32


class Compares(World):
    """Nodes of as many owners, and a job of one item."""

    def __init__(self, owners: int = 5, replicas: int = 2) -> None:
        super().__init__(nodes=2 * owners)
        self.owners = self.nodes[::2]
        for node in self.owners:
            self.offer(node, BIG, PRICE)
        self.grant(self.buyers[0], 10**6)
        self.fund(10**6)
        self.settle()
        order = Order(
            id=JOB,
            vertical="compute",
            work={"compares": True, "buyers_word": True, "program": "p"},
            replicas=replicas,
            compare="tolerance",
            tolerance=Tolerance(rtol="1e-3"),
        )
        answer = self.submit(order, self.buyers[0])
        self.settle()
        assert not failed(answer)

    def answer(self, *results: int) -> None:
        """The nodes that were asked say so, in the order in which they were."""
        nodes = {node.id: node for node in self.nodes}
        proposed = [lease for lease in self.brain.leases.values() if lease.state is LeaseState.PROPOSED]
        assert len(proposed) == len(results)
        for lease in proposed:
            self.accept(nodes[lease.node], lease.id)
        self.settle()
        self.wait(USED_MS)
        for lease, result in zip(proposed, results, strict=True):
            self.final(nodes[lease.node], lease.id, 0, USED_MS, result=bytes([result]) * 32)
            self.settle()

    def asked(self) -> tuple[str, ...]:
        """Which results wait to be compared."""
        (asked,) = self.brain.judging.comparing.waiting.values()
        return asked.results

    def say(self, *near: tuple[int, int], fault: str = "") -> None:
        """How they compare."""
        (asked,) = self.brain.judging.comparing.waiting.values()
        pairs = [(name(one), name(other)) for one, other in near]
        compared = Compared(frozenset(pairs) | frozenset(pair[::-1] for pair in pairs), fault)
        self.ask(partial(Brain.compared, asked=asked, compared=compared))
        self.settle()

    @property
    def item(self) -> Item:
        """The job's one item, as it is stored."""
        job = next(job for job in self.store.all_jobs() if job.order.id == JOB)
        return self.store.items_of(job)[0]

    def all_paid(self, leases: int) -> None:
        """Each result was paid by the buyer, and nobody's standing has moved."""
        ended = self.store.all_leases()
        assert len(ended) == leases
        assert all(lease.ok and lease.payer == self.buyers[0] for lease in ended)
        assert self.item.owed_microusd == leases * 1000
        assert not self.store.standings
        assert not self.store.evidence
        assert not self.brain.judging.comparing.waiting


def name(result: int) -> str:
    return (bytes([result]) * 32).hex()


def test_results_that_are_near_each_other_agree_and_the_first_is_the_buyers() -> None:
    world = Compares()
    world.answer(2, 1)
    assert world.item.state is ItemState.CHECKING
    assert world.asked() == (name(1), name(2))
    world.say((1, 2))
    assert (world.item.state, world.item.result, world.item.checked) == (ItemState.DONE, name(2), True)
    world.all_paid(2)


def test_equal_results_need_no_comparison() -> None:
    world = Compares()
    world.answer(1, 1)
    assert world.item.state is ItemState.DONE
    world.all_paid(2)


def test_results_that_differ_take_more_and_the_one_with_most_around_it_wins() -> None:
    """Nearness is not transitive: 2 is near 1 and 3, which are not near each other."""
    world = Compares()
    world.answer(1, 3)
    world.say()
    world.answer(2)
    assert world.asked() == (name(1), name(2), name(3))
    world.say((1, 2), (2, 3))
    assert (world.item.state, world.item.result) == (ItemState.DONE, name(2))
    world.all_paid(3)


def test_what_they_said_of_each_other_is_kept_as_hints() -> None:
    world = Compares(replicas=3)
    leases = list(world.brain.leases.values())
    world.answer(1, 2, 9)
    world.say((1, 2))
    assert world.item.result == name(1)
    hints = [(hint.nodes, hint.same) for hint in world.checks._reruns.values()]
    assert hints == [
        ((leases[0].node, leases[1].node), True),
        ((leases[0].node, leases[2].node), False),
    ]
    world.all_paid(3)
    drawn = {(draw.lease, draw.purpose) for draw in world.checks._draws.values()}
    assert drawn == {(lease.id, Purpose.CANARY) for lease in leases}  # each of them may bring a canary


def test_five_that_are_all_far_apart_are_inconclusive_and_paid() -> None:
    world = Compares()
    world.answer(1, 2)
    for result in (3, 4, 5):
        world.say()
        world.answer(result)
    world.say()
    assert (world.item.state, world.item.reason) == (ItemState.FAILED, "result.inconclusive")
    world.all_paid(5)


def test_a_comparator_that_fails_is_its_buyers_doing() -> None:
    world = Compares()
    world.answer(1, 2)
    world.say(fault="comparator.trap")
    assert (world.item.state, world.item.reason) == (ItemState.FAILED, "comparator.trap")
    world.all_paid(2)


@pytest.mark.parametrize("near", [True, False])
def test_without_a_further_owner_those_that_are_there_must_all_agree(*, near: bool) -> None:
    world = Compares(owners=2, replicas=3)
    world.answer(1, 2)
    assert world.item.state is ItemState.CHECKING
    world.say(*([(1, 2)] if near else []))
    wanted = (ItemState.DONE, name(1)) if near else (ItemState.FAILED, None)
    assert (world.item.state, world.item.result) == wanted
    world.all_paid(2)


def test_a_market_that_starts_anew_has_compared_what_waited() -> None:
    world = Compares()
    world.answer(1, 2)
    late = next(iter(world.brain.judging.comparing.waiting.values()))
    world.restart()
    world.say((1, 2))
    assert world.item.state is ItemState.DONE
    world.ask(partial(Brain.compared, asked=late, compared=Compared(fault="comparator.trap")))
    world.settle()
    assert world.item.state is ItemState.DONE
    world.all_paid(2)


def test_a_job_that_is_cancelled_meanwhile_is_paid_so_far() -> None:
    world = Compares()
    world.answer(1, 2)
    world.cancel(JOB, world.buyers[0])
    world.settle()
    assert world.item.state is ItemState.CANCELLED
    world.all_paid(2)


def test_accounts_take_turns() -> None:
    world = Compares()
    world.answer(1, 2)
    comparing = world.brain.judging.comparing
    (mine,) = comparing.waiting.values()
    for number in range(3):
        again = mine._replace(item=number)
        comparing.waiting[again.key] = again
    other = mine._replace(job="2" * 32, account=world.buyers[1])
    comparing.waiting[other.key] = other
    last, turns = b"", []
    for _ in range(4):
        asked = comparing.next_for(last)
        assert asked is not None
        comparing.learn(asked, Compared())
        last = asked.account
        turns.append(asked.account)
    assert sorted(turns[:2]) == sorted([mine.account, other.account])
    assert set(turns[2:]) == {mine.account}
    assert comparing.next_for(last) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"tolerance": None},
        {"compare": "exact"},
        {"replicas": 1},
        {"tolerance": {"rtol": "-1"}},
        {"tolerance": {"rtol": "nan"}},
        {"tolerance": {"rtol": "1e9999"}},
        {"tolerance": {"rtol": "1e-3", "program": "a" * 64}},
        {"tolerance": {"program": "a" * 64, "fuel": 10**11}},
    ],
)
def test_what_is_no_tolerance_is_refused_at_the_door(wrong: dict[str, object]) -> None:
    asked = {
        "id": JOB,
        "vertical": "compute",
        "work": {},
        "replicas": 2,
        "compare": "tolerance",
        "tolerance": {"rtol": "1e-3"},
    }
    assert msgspec.convert(asked, Order).tolerance == Tolerance(rtol="1e-3")
    order = msgspec.convert(asked, Order)
    assert msgspec.convert(msgspec.to_builtins(order), Order) == order
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({**asked, **wrong}, Order)
