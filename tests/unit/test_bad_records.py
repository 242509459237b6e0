"""A record that meets a bug of the market: it is set aside and named, and everybody else's goes on."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fallow.adapters.memory.database import MemoryTransaction
from fallow.domain.chart import Credit, give_back, purse_id
from fallow.domain.facts import UsageReceipt
from fallow.domain.jobs import LOSSES_MAX, ItemState, JobState
from fallow.domain.leases import NETWORK_FAILED, LeaseState
from fallow.domain.ledger import Transfer
from fallow.domain.offers import Offer
from fallow.domain.orders import Order
from fallow.domain.records import Record
from fallow.domain.verification import Standing
from fallow.ports.mishaps import MISHAPS
from fallow.services.market import intake, money, rounds
from fallow.services.market.brain import Brain
from fallow.services.market.care import AT_ONCE_MAX, Care
from fallow.services.market.dispatch import dispatch
from tests.market_twins import finish
from tests.market_world import World
from tests.network import until
from tests.unit.market_orders import BIG, CHEAP, accept_all, order, submit

Patch = pytest.MonkeyPatch


class Bug(Exception):
    """Planted."""


@asynccontextmanager
async def running(world: World, patch: Patch, *, adds_up: bool = True) -> AsyncIterator[None]:
    """Let the rounds go by themselves, as in production, and check at the end what must always hold.

    Time is still the world's own, which nobody moves.
    """

    async def nobody(_: object) -> int:
        return 0

    async def step_down(*_: object) -> None:
        return

    async def rest(_: float) -> None:
        await asyncio.sleep(0)

    patch.setattr(rounds, "TICK_S", 0.001)
    patch.setattr(World, "sleep", staticmethod(rest))
    patch.setattr(World, "monotonic_ms", World.now_ms, raising=False)
    patch.setattr(World, "not_before", lambda *_: None, raising=False)
    patch.setattr(type(world.store), "until", staticmethod(nobody), raising=False)
    patch.setattr(type(world.store), "step_down", staticmethod(step_down), raising=False)
    async with asyncio.timeout(120), world.rounds.running():
        yield
    if adds_up:
        world.check()


def hit_by(patch: Patch, method: str, hit: Callable[..., bool]) -> list[object]:
    """Plant a bug in a method of the mind; returns what it has hit."""
    right, hits = getattr(Brain, method), list[object]()

    def planted(self: Brain, *args: Any, **options: Any) -> object:
        if hit(*args):
            hits.append(args)
            raise Bug(method)
        return right(self, *args, **options)

    patch.setattr(Brain, method, planted)
    return hits


def two_at_work(world: World) -> list[bytes]:
    submit(world, order(1))
    submit(world, order(2))
    return accept_all(world)


def refused(world: World) -> list[tuple[bytes, int, str]]:
    return [(one.node, one.seq, one.code) for one in world.store.refusals.values()]


@pytest.mark.mishaps
async def test_a_record_that_fails_alone_is_set_aside_and_named(world: World, monkeypatch: Patch) -> None:
    """The lease that it was about ends by the network's fault, and its item is done elsewhere; nobody is blamed."""
    first, second = two_at_work(world)
    world.offer(world.nodes[2], BIG, CHEAP)
    world.settle()
    node = world.nodes[0]
    before = Counter(MISHAPS.counts())
    hits = hit_by(monkeypatch, "reported", lambda _source, receipt, _now: receipt.lease == first)
    bad = node.seq
    world.final(node, first, 0, 0)
    world.final(node, second, 0, 0)
    async with running(world, monkeypatch):
        await until(lambda: world.store.lease(second).state is LeaseState.ENDED, "the other lease has ended")
        await until(lambda: bool(world.brain.leases), "the item is with another node")
    assert len(hits) == 2, "once among others, and once alone"
    assert refused(world) == [(node.id, bad, NETWORK_FAILED)]
    place = f"market.record {node.id.hex()}/{node.boot}/{bad}"
    assert Counter(MISHAPS.counts()) - before == {place: 1, "market.round": 2}
    lease = world.store.lease(first)
    assert (lease.state, lease.reason, lease.caused_by) == (LeaseState.ENDED, NETWORK_FAILED, "network")
    assert (node.id, first) in world.sent.stops
    assert world.brain.judging.standing(node.id) == Standing()
    (item,) = world.brain.jobs[lease.job].items.values()
    assert (item.state, item.shunned, item.attempts) == (ItemState.PLACED, (node.id,), 2)


@pytest.mark.mishaps
async def test_what_is_no_records_fault_costs_no_record(world: World, monkeypatch: Patch) -> None:
    """A bug that ends every round for a while, whatever is read."""
    (lease,) = two_at_work(world)[:1]
    broken, seen = [True], [0]

    def hit(*_: object) -> bool:
        seen[0] += 1
        return broken[0]

    def planted(*args: Any, **options: Any) -> None:
        if hit():
            raise Bug
        dispatch(*args, **options)

    monkeypatch.setattr("fallow.services.market.rounds.dispatch", planted)
    world.final(world.nodes[0], lease, 0, 0)
    async with running(world, monkeypatch):
        await until(lambda: seen[0] >= 10, "ten rounds have failed")
        broken[0] = False
        await until(lambda: world.store.lease(lease).state is LeaseState.ENDED, "the receipt counts")
    assert refused(world) == []
    assert world.store.lease(lease).caused_by != "network"


@pytest.mark.mishaps
async def test_what_an_input_meets_costs_no_record(world: World, monkeypatch: Patch) -> None:
    (lease,) = two_at_work(world)[:1]
    hits = hit_by(monkeypatch, "cancel", lambda *_: True)
    world.final(world.nodes[0], lease, 0, 0)
    world.cancel(order(2).id, world.buyers[0])
    async with running(world, monkeypatch):
        await until(lambda: world.store.lease(lease).state is LeaseState.ENDED, "the receipt counts")
    assert (len(hits), refused(world)) == (1, [])


@pytest.mark.mishaps
async def test_a_lease_that_cannot_be_ended_stays_and_its_record_is_set_aside(world: World, monkeypatch: Patch) -> None:
    first, second = two_at_work(world)
    hit_by(monkeypatch, "reported", lambda _source, receipt, _now: receipt.lease == first)
    hits = hit_by(monkeypatch, "failed", lambda *_: True)
    bad = world.nodes[0].seq
    world.final(world.nodes[0], first, 0, 0)
    world.final(world.nodes[0], second, 0, 0)
    async with running(world, monkeypatch):
        await until(lambda: world.store.lease(second).state is LeaseState.ENDED, "the other lease has ended")
    assert len(hits) == 1
    assert refused(world) == [(world.nodes[0].id, bad, NETWORK_FAILED)]
    assert world.store.lease(first).state is LeaseState.RUNNING


@pytest.mark.mishaps
async def test_a_record_that_cannot_even_be_read_is_set_aside(world: World, monkeypatch: Patch) -> None:
    first, second = two_at_work(world)
    right = intake._lease_fact

    def planted(record: Record) -> intake.LeaseFact | None:
        body = right(record)
        if isinstance(body, UsageReceipt) and body.lease == first:
            raise Bug
        return body

    monkeypatch.setattr(intake, "_lease_fact", planted)
    bad = world.nodes[0].seq
    world.final(world.nodes[0], first, 0, 0)
    world.final(world.nodes[0], second, 0, 0)
    async with running(world, monkeypatch):
        await until(lambda: world.store.lease(second).state is LeaseState.ENDED, "the other lease has ended")
    assert refused(world) == [(world.nodes[0].id, bad, NETWORK_FAILED)]
    assert world.store.lease(first).state is LeaseState.RUNNING


@pytest.mark.mishaps
async def test_of_many_only_the_bad_ones_are_set_aside(world: World, monkeypatch: Patch) -> None:
    offers: list[int] = []

    def hit(offer: Offer, _: int) -> bool:
        return offer.made.offer in {4, 30}

    hit_by(monkeypatch, "offer", hit)
    right = Brain.offer

    def counted(self: Brain, offer: Offer, now: int) -> None:
        right(self, offer, now)
        offers.append(offer.made.offer)

    monkeypatch.setattr(Brain, "offer", counted)
    first = world.nodes[1].seq
    for _ in range(40):
        world.offer(world.nodes[1], BIG, CHEAP)
    async with running(world, monkeypatch):
        await until(lambda: 40 in offers, "all is read")
    assert refused(world) == [(world.nodes[1].id, first + at, NETWORK_FAILED) for at in (3, 29)]
    assert set(offers) == set(range(1, 41)) - {4, 30}


async def test_a_commit_whose_answer_was_lost_costs_no_second_record(world: World, monkeypatch: Patch) -> None:
    """The suspect is named by its place in the log: where that has been passed, nothing is set aside."""
    world.rounds._care.suspect = world.rounds._cursor._replace(pos=world.rounds._cursor.pos + 7)
    world.rounds._care.error = Bug()
    world.offer(world.nodes[1], BIG, CHEAP)
    async with running(world, monkeypatch):
        await until(lambda: world.nodes[1].id in world.store.offer_docs, "the offer counts")
    assert refused(world) == []


@pytest.mark.mishaps
async def test_an_item_that_always_meets_a_bug_does_not_go_round_for_ever(world: World, monkeypatch: Patch) -> None:
    submit(world, order())
    for node in world.nodes[1:]:
        world.offer(node, BIG, CHEAP)
    world.settle()
    nodes = {node.id: node for node in world.nodes}
    hit_by(monkeypatch, "accepted", lambda *_: True)
    async with running(world, monkeypatch):
        for losses in range(1, LOSSES_MAX + 1):
            await until(lambda: bool(world.brain.leases) or not world.brain.jobs, "it is placed")
            for lease in list(world.brain.leases.values()):
                world.accept(nodes[lease.node], lease.id)
            world.rounds.log_has_news()
            await until(lambda: len(refused(world)) == losses, "it is set aside")  # noqa: B023 - in its own turn
    (job,) = world.store.all_jobs()
    (item,) = world.store.items_of(job)
    assert (job.state, item.state, item.reason) == (JobState.FAILED, ItemState.FAILED, NETWORK_FAILED)


def misposts(patch: Patch, method: str, hit: Callable[..., bool]) -> list[object]:
    """Plant a bug in how the market's money moves: instead of what is right it asks for the impossible."""
    right, hits = getattr(money, method), list[object]()

    def planted(lease: bytes, window: int, *args: Any) -> list[Transfer]:
        if hit(lease, *args):
            hits.append(args)
            return give_back(lease, window + 1, ((Credit.GRANTED.value, 1),))
        return right(lease, window, *args)

    patch.setattr(money, method, planted)
    return hits


def pending(world: World) -> int:
    balances = finish(world.ledger.balances(MemoryTransaction(), [purse_id(Credit.GRANTED, world.buyers[0])]))
    return sum(balance.debits_pending for balance in balances.values())


async def insist(world: World, wanted: Order, account: bytes) -> int:
    """Order as a client does, again where the market fails; returns how often."""
    for tries in range(1, 100):
        answer = world.submit(wanted, account)
        await until(lambda: answer.given, "it is answered")  # noqa: B023 - in its own turn
        if answer.error is None:
            return tries
    raise AssertionError("the order is never taken")


@pytest.mark.mishaps
async def test_a_lease_that_cannot_be_paid_ends_and_gives_back_what_it_holds(world: World, monkeypatch: Patch) -> None:
    """Its node keeps its standing, its item is done elsewhere, and whoever operates the network hears of it."""
    first, second = two_at_work(world)
    world.offer(world.nodes[2], BIG, CHEAP)
    world.settle()
    before = Counter(MISHAPS.counts())
    hits = misposts(monkeypatch, "collect", lambda lease, _held, charges, _: lease == first and charges[0][1].total)
    node, bad = world.nodes[0], world.nodes[0].seq
    world.wait(2000)
    world.final(node, first, 0, 1000)
    world.final(node, second, 0, 1000)
    async with running(world, monkeypatch):
        await until(lambda: world.store.lease(second).state is LeaseState.ENDED, "the other lease has ended")
        await until(lambda: bool(world.brain.leases), "the item is with another node")
    assert len(hits) == 1
    lease = world.store.lease(first)
    assert (lease.state, lease.reason, lease.caused_by) == (LeaseState.ENDED, NETWORK_FAILED, "network")
    assert (lease.owed_microusd, world.store.lease(second).owed_microusd) == (0, 100)
    assert Counter(MISHAPS.counts()) - before == {f"market.money {first.hex()}": 1}
    assert refused(world) == [(node.id, bad, "lease.not_open")]
    assert world.brain.judging.standing(node.id) == Standing()


@pytest.mark.mishaps
@pytest.mark.parametrize("ok", [True, False])
async def test_money_that_cannot_even_be_given_back_stays_and_stops_nothing(
    world: World, monkeypatch: Patch, *, ok: bool
) -> None:
    first, second = two_at_work(world)
    held = sum(amount for _, amount in world.brain.leases[first].held)
    before = Counter(MISHAPS.counts())
    misposts(monkeypatch, "collect", lambda lease, *_: lease == first)
    world.wait(2000)
    world.final(world.nodes[0], first, 0, 1000, ok=ok, caused_by="provider")
    world.final(world.nodes[0], second, 0, 1000)
    async with running(world, monkeypatch, adds_up=False):
        await until(lambda: world.store.lease(second).state is LeaseState.ENDED, "the other lease has ended")
        later = world.submit(order(3), world.buyers[0])
        await until(lambda: later.given, "the next order is taken")
    lease = world.store.lease(first)
    assert (lease.state, lease.paid, lease.reason) == (LeaseState.ENDED, (), NETWORK_FAILED)
    assert pending(world) == held + sum(amount for one in world.brain.leases.values() for _, amount in one.held)
    assert Counter(MISHAPS.counts()) - before == {f"market.money {first.hex()}": 2}


@pytest.mark.mishaps
async def test_an_item_that_money_cannot_be_held_for_fails_and_others_go_on(world: World, monkeypatch: Patch) -> None:
    for node in world.nodes[1:]:
        world.offer(node, BIG, CHEAP)
    world.grant(world.buyers[1], 1_000_000)
    world.settle()
    misposts(monkeypatch, "hold", lambda _lease, payer, _parts: payer == world.buyers[1])
    async with running(world, monkeypatch):
        tries = await insist(world, order(1), world.buyers[1])
        await insist(world, order(2), world.buyers[0])
        await until(lambda: any(job.ended_at for job in world.store.all_jobs()), "the job has ended")
        await until(lambda: bool(world.brain.leases), "others get their machine")
    assert tries > 1, "the round that took it met the bug"
    jobs = {job.order.id: job for job in world.store.all_jobs()}
    (item,) = world.store.items_of(jobs[order(1).id])
    assert (item.state, item.reason, item.owed_microusd) == (ItemState.FAILED, NETWORK_FAILED, 0)


def test_care_comes_back_to_as_many_as_there_are() -> None:
    care = Care()
    care.failed(Bug())
    seen = []
    while care.records_max is not None:
        seen.append(care.records_max)
        care.went_well(all_read=False)
    assert seen[:4] == [0, 1, 2, 4]
    assert seen[-1] == AT_ONCE_MAX
