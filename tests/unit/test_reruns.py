"""Work that nobody compares, run again on a machine of the same class: the market's rounds."""

from __future__ import annotations

from typing import Any, cast

import pytest

from fallow.domain.canaries import Known
from fallow.domain.draws import Purpose, Seed, hidden_id, hits
from fallow.domain.jobs import LOSSES_MAX, Item, ItemState, Job, Needs
from fallow.domain.leases import Lease, LeaseState
from fallow.domain.orders import Order
from fallow.domain.reruns import Rerun, can_be_rerun, rerun
from fallow.domain.resources import Resources, Terms
from fallow.domain.verification import Vote
from fallow.services.market.dispatch import lease_id
from fallow.services.market.entry import Entry
from fallow.services.market.outbound import Outbound
from tests.market_world import World, failed

BIG = Resources(cpu_milli=4000, memory_mib=8000, disk_mib=8000)
PRICE = Terms(price_microusd_per_core_hour=3_600_000)
LIKE = {"arch": "x86_64", "cpu.model": "Epyc", "compute.python": "3.11"}
USED_MS = 1_000


class Reruns(World):
    """Nodes of four owners; those of `unlike` are of another class."""

    def __init__(self, *, unlike: int = 0, owners: int = 4) -> None:
        super().__init__(nodes=2 * owners)
        self.owners = self.nodes[::2]
        for place, node in enumerate(self.owners):
            model = "Pentium" if 0 < place <= unlike else "Epyc"
            self.offer(node, BIG, PRICE, attributes={**LIKE, "cpu.model": model})
        self.grant(self.buyers[0], 10**9)
        self.fund(10**9)
        self.settle()
        self.bought = 0

    def buy(self, *, drawn: bool = True, purpose: Purpose = Purpose.RERUN, **work: Any) -> str:
        """Order a script; its first lease is one that the draw for re-runs, say, hits, or not."""
        while True:
            self.bought += 1
            job_id = f"{self.bought:032x}"
            lease = lease_id(job_id, Item(index=0))
            if hits(self.brain.judging.seed.value, purpose, lease, 10) is drawn:
                break
        order = Order(id=job_id, vertical="compute", work={"program": "p", **work})
        answer = self.submit(order, self.buyers[0])
        self.settle()
        assert not failed(answer)
        return job_id

    def proposed(self) -> list[Lease]:
        """Leases that nodes were asked for."""
        return [lease for lease in self.brain.leases.values() if lease.state is LeaseState.PROPOSED]

    def answer(self, said: int, **fields: Any) -> Lease:
        """The one node that was asked does it."""
        (lease,) = self.proposed()
        return self.work(lease, said, **fields)

    def work(self, lease: Lease, said: int, **fields: Any) -> Lease:
        """The node that was asked for it does it."""
        node = next(node for node in self.nodes if node.id == lease.node)
        self.accept(node, lease.id)
        self.settle()
        self.wait(USED_MS)
        self.final(node, lease.id, 0, USED_MS, result=bytes([said]) * 32, **fields)
        self.settle()
        return self.store.lease(lease.id)

    def confirmed(self, lease: Lease) -> int:
        """Confirmed results of the node that did it."""
        return self.brain.judging.standing(lease.node).confirmed


def test_the_buyer_waits_for_nothing_and_the_same_bytes_confirm_both() -> None:
    world = Reruns()
    job = world.buy()
    first = world.answer(7)
    assert world.store.items[job, 0]
    assert job not in world.brain.jobs  # it is done and paid
    again = world.answer(7)
    assert again.ok
    assert (first.payer, again.payer) == (world.buyers[0], b"")
    assert first.payee != again.payee
    assert world.confirmed(first) == world.confirmed(again) == 1
    assert [found.same for found in world.checks._reruns.values()] == [True]
    assert not world.proposed()


def test_other_bytes_are_a_hint_that_costs_nobody_anything() -> None:
    world = Reruns()
    world.buy()
    first, again = world.answer(7), world.answer(8)
    assert first.ok
    assert again.ok
    assert again.owed_microusd > 0
    assert not world.store.standings
    assert not world.store.evidence
    (found,) = world.checks._reruns.values()
    assert found == Rerun(
        first.id, world.buyers[0], "p", (first.node, again.node), (first.payee, again.payee), False, found.at
    )


def test_it_is_run_again_on_a_machine_of_the_same_class_or_not_at_all() -> None:
    world = Reruns(unlike=2)
    world.buy()
    first, again = world.answer(7), world.answer(7)
    models = [world.brain.floor.slots[lease.node].offer.made.attributes["cpu.model"] for lease in (first, again)]
    assert models[0] == models[1]
    alone = Reruns(unlike=1, owners=2)
    alone.buy()
    alone.answer(7)
    assert not alone.proposed()
    assert not alone.brain.jobs


@pytest.mark.parametrize(("drawn", "ok"), [(False, True), (True, False)])
def test_what_is_not_drawn_or_failed_is_not_run_again(*, drawn: bool, ok: bool) -> None:
    world = Reruns()
    world.buy(drawn=drawn)
    world.answer(7, ok=ok, **({} if ok else {"reason": "program.exit", "caused_by": "buyer"}))
    assert not world.proposed()
    assert not world.checks._reruns


def test_nobody_who_lacks_the_seed_can_take_a_re_runs_name_beforehand() -> None:
    """A buyer knows the lease's: a name that follows from that alone he could order something under first."""
    world = Reruns()
    world.buy()
    first = world.answer(7)
    (again,) = world.proposed()
    seed = world.brain.judging.seed
    assert again.job == hidden_id(seed, Purpose.RERUN, first.id)
    others = [seed._replace(value=bytes([value]) * 32) for value in range(8)]
    assert len({again.job, *(hidden_id(other, Purpose.RERUN, first.id) for other in others)}) == 9
    assert again.job not in {hidden_id(seed, purpose, first.id) for purpose in Purpose if purpose != Purpose.RERUN}


def test_what_is_given_back_again_and_again_is_not_run_again_for_ever() -> None:
    world = Reruns()
    world.buy()
    world.answer(7)
    for _ in range(LOSSES_MAX):
        world.wait(70_000)
        world.settle()
        world.answer(0, ok=False, reason="image.unavailable", caused_by="nobody")
    assert not world.brain.jobs
    assert not world.checks._reruns


def test_a_check_that_is_given_back_again_and_again_is_done_without() -> None:
    """Else its buyer, and the provider of the result that it checks, would wait for ever."""
    world = Reruns()
    world.submit(Order(id="1" * 32, vertical="compute", work={"compares": True}), world.buyers[0])
    for _ in range(LOSSES_MAX):  # that happened before there was a result, and does not count
        world.wait(70_000)
        world.settle()
        world.answer(0, ok=False, reason="image.unavailable", caused_by="nobody")
    world.wait(70_000)
    world.settle()
    first = world.answer(7)
    for _ in range(LOSSES_MAX):
        assert world.store.lease(first.id).state is LeaseState.REPORTED
        world.wait(70_000)
        world.settle()
        world.answer(0, ok=False, reason="image.unavailable", caused_by="nobody")
    (job,) = world.store.all_jobs()
    (item,) = world.store.items_of(job)
    assert (item.state, item.checked) == (ItemState.DONE, False)
    assert world.store.lease(first.id).paid
    assert world.confirmed(first) == 0


OWNER, BUYER = b"o" * 20, b"b" * 20


@pytest.mark.parametrize(
    ("job", "needs", "order", "lease", "can"),
    [
        ({}, {}, {}, {}, True),
        ({}, {}, {}, {"used_ms": 60_000}, True),
        ({}, {}, {}, {"used_ms": 60_001}, False),
        ({}, {}, {}, {"used_ms": 30_000, "claim_ms": 30_001}, False),
        ({}, {}, {}, {"ok": False}, False),
        ({}, {}, {}, {"resume": "ab" * 32}, False),
        ({}, {}, {}, {"payee": BUYER}, False),
        ({}, {"program": ""}, {}, {}, False),
        ({}, {"compares": True}, {}, {}, False),
        ({}, {"secrets": ("KEY",)}, {}, {}, False),
        ({}, {}, {"until_stopped": True}, {}, False),
        ({"planted": True}, {}, {}, {}, False),
    ],
)
def test_what_may_be_run_again(
    job: dict[str, Any], needs: dict[str, Any], order: dict[str, Any], lease: dict[str, Any], *, can: bool
) -> None:
    bought = Job(
        order=Order(id="1" * 32, vertical="compute", work={}, **order),
        account=BUYER,
        needs=Needs(**{"program": "p", **needs}),
        created_at=1,
        **job,
    )
    fields: dict[str, Any] = {"payee": OWNER, "used_ms": 1, "ok": True, **lease}
    done = Lease(
        id=b"l" * 16,
        job=bought.order.id,
        item=0,
        payer=BUYER,
        node=b"n" * 32,
        boot=1,
        resources=BIG,
        price_microusd_per_hour=1,
        price_version=1,
        window_ms=1,
        time_limit_ms=1,
        proposed_at=1,
        answer_by=1,
        **fields,
    )
    assert can_be_rerun(bought, done) is can
    vote = Vote(lease=done.id, node=done.node, account=OWNER, ok=True, reason="", result=None)
    again = rerun(bought, 0, vote, {}, Seed(1, bytes(32)), 2)
    assert not can_be_rerun(again, done)


def suspect(world: Reruns) -> None:
    """Three owners agree on the program, the first node differs from two of them."""
    nodes, owners = [node.id for node in world.owners], [node.account for node in world.owners]
    met = [(1, 2, True), (2, 3, True), (1, 3, True), (0, 1, False), (0, 2, False)]
    for number, (one, other, same) in enumerate(met):
        found = Rerun(
            bytes([number]) * 16,
            world.buyers[0],
            "p",
            (nodes[one], nodes[other]),
            (owners[one], owners[other]),
            same,
            number,
        )
        world.brain.judging.reruns.learn(found)
        world.checks._reruns[found.lease] = found


@pytest.mark.parametrize("restarted", [False, True])
def test_a_suspect_gets_none_of_the_program_while_others_could_do_it(*, restarted: bool) -> None:
    world = Reruns()
    suspect(world)
    if restarted:
        world.restart()
    world.wait(1)
    world.settle()
    assert world.brain.judging.reruns.suspects((world.buyers[0], "p")) == {world.owners[0].id}
    for _ in range(4):
        world.buy(drawn=False)
    assert world.owners[0].id not in {lease.node for lease in world.proposed()}
    world.buy(drawn=False, program="another")
    assert len(world.proposed()) == 5
    for node in world.owners[1:]:
        node.alive = False
    world.wait(20_000)
    world.settle()
    world.settle()
    assert {lease.node for lease in world.proposed()} == {world.owners[0].id}  # better than nobody


def test_a_result_that_drew_a_canary_and_then_a_suspicion_brings_two() -> None:
    """Each with leases and transfers of its own: the second does not begin the first anew."""
    world = Reruns()
    suspect(world)
    del world.checks._reruns[bytes([3]) * 16]  # one difference is missing yet
    world.restart()
    for number in (1, 2):
        order = Order(id=f"{number}" * 32, vertical="compute", work={}, time_limit_s=60)
        job = Job(order=order, account=OWNER, needs=Needs(), created_at=1)
        known = Known(job=job, item=0, says=(True, "", "05" * 32), at=1, accounts=())
        world.brain.judging.canaries.learn(known, {})
    world.offer(world.owners[0], BIG, Terms(price_microusd_per_core_hour=1_800_000), attributes=LIKE)
    world.settle()
    world.buy(purpose=Purpose.CANARY)
    node = world.answer(7).node
    drawn, again = sorted(world.proposed(), key=lambda lease: lease.node != node)
    assert world.work(drawn, 5).ok
    assert world.work(again, 8).ok
    assert world.brain.judging.reruns.suspects((world.buyers[0], "p")) == {node}
    (hinted,) = world.proposed()
    assert (hinted.node, hinted.payer) == (node, b"")
    assert hinted.id != drawn.id
    assert world.answer(5).ok
    assert world.store.lease(drawn.id).ok


def test_a_re_run_looks_to_its_node_like_the_work_that_it_repeats() -> None:
    world = Reruns()
    job = world.buy()
    (lease,) = world.proposed()
    entry = world.brain.jobs[job]
    world.answer(7)
    (again,) = world.proposed()
    repeated = world.brain.jobs[again.job]
    assert again.job != job
    outbound = Outbound(
        net="test", epoch_ms=86_400_000, sign=lambda _: bytes(64), bus=cast("Any", None), vault=cast("Any", None)
    )

    def seen(lease: Lease, entry: Entry) -> object:
        alike = {"id": b"l" * 16, "node": b"n" * 32, "proposed_at": 1, "answer_by": 2, "price_version": 1}
        fields = {**{name: getattr(lease, name) for name in lease.__struct_fields__}, **alike}
        return outbound.proposal(Lease(**fields), entry)

    assert seen(again, repeated) == seen(lease, entry)
    assert world.store.items_of(entry.job)[0].state is ItemState.DONE
