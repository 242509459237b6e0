"""The life of an item and of its job: whatever becomes of leases, it ends once, for a reason, and nothing is lost."""

# ruff: noqa: D101, D102 - the names of the machine's steps say what they do

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fallow.domain.jobs import (
    AGAIN_DOUBLINGS_MAX,
    AGAIN_MS,
    BUYER_CANCELLED,
    FINAL,
    GIVEN_BACK_MAX,
    LOSSES_MAX,
    Item,
    ItemState,
    Job,
    JobState,
    Needs,
    after_items,
    cancelled,
    concluded,
    placed,
    results_wanted,
    running,
    voted,
    without,
)
from fallow.domain.leases import CHECKPOINT_UNUSABLE, Lease
from fallow.domain.orders import Order
from fallow.domain.resources import Resources
from fallow.domain.verification import Vote, judge

PICK = st.integers(0, 100)
CAUSES = st.sampled_from(["buyer", "provider", "owner", "nobody", "network"])
REASONS = st.sampled_from(["node.vanished", "owner.paused", CHECKPOINT_UNUSABLE])
BLOB = "ab" * 32


def open_(machine: JobMachine) -> bool:
    return machine.item.state not in FINAL


def has_lease(machine: JobMachine) -> bool:
    return bool(machine.item.leases)


def judged(machine: JobMachine) -> bool:
    return open_(machine) and bool(machine.item.votes) and not machine.item.leases


class JobMachine(RuleBasedStateMachine):
    @initialize(
        replicas=st.integers(1, 3),
        retries=st.integers(0, 2),
        until_stopped=st.booleans(),
        compares=st.booleans(),
        proves=st.booleans(),
    )
    def begin(self, replicas: int, retries: int, until_stopped: bool, compares: bool, proves: bool) -> None:
        fields: dict[str, Any] = {"replicas": replicas, "retries": retries, "until_stopped": until_stopped}
        order = Order(id="0" * 32, vertical="compute", work={}, items=[], **fields)
        needs = Needs(compares=compares and not until_stopped, proves=proves, checkpoints=True)
        self.job = Job(order=order, account=b"a" * 20, needs=needs, created_at=0)
        self.item = Item(index=0, wanted=results_wanted(order, needs))
        self.leases: dict[bytes, Lease] = {}
        self.seen: list[ItemState] = [self.item.state]
        self.lost = 0
        self.now = 0

    def becomes(self, item: Item) -> None:
        """What has ended stays as it is; what was counted is not forgotten."""
        assert self.item.state not in FINAL
        assert item.attempts >= self.item.attempts
        assert item.failures >= self.item.failures
        self.item = item
        self.seen.append(item.state)

    # What is placed, and what becomes of it

    @precondition(lambda self: self.item.lacks_lease)
    @rule()
    def place(self) -> None:
        number = self.item.attempts
        lease = Lease(
            id=number.to_bytes(16, "big"),
            job=self.job.order.id,
            item=0,
            payer=self.job.account,
            payee=number.to_bytes(20, "big"),
            node=number.to_bytes(32, "big"),
            boot=1,
            resources=Resources(cpu_milli=1, memory_mib=1),
            price_microusd_per_hour=1,
            price_version=1,
            window_ms=1,
            time_limit_ms=1,
            proposed_at=0,
            answer_by=1,
            resume=self.item.checkpoint,
        )
        self.leases[lease.id] = lease
        self.becomes(placed(self.item, lease))
        assert not self.item.reason

    def one(self, pick: int) -> Lease:
        return self.leases[self.item.leases[pick % len(self.item.leases)]]

    @precondition(has_lease)
    @rule(pick=PICK)
    def start(self, pick: int) -> None:
        lease = self.one(pick)
        self.leases[lease.id] = msgspec.structs.replace(lease, started_at=1)
        self.becomes(running(self.item))

    @precondition(has_lease)
    @rule(pick=PICK, says=st.sampled_from(["x", "y", None]), reason=st.sampled_from(["", "program.failed"]))
    def vote(self, pick: int, says: str | None, reason: str) -> None:
        lease = self.one(pick)
        vote = Vote(
            lease=lease.id,
            node=lease.node,
            account=lease.payee,
            ok=not reason,
            reason=reason,
            result=says and says * 64,
        )
        self.becomes(voted(self.item, lease, vote))
        assert lease.id not in self.item.leases
        assert self.item.given_back == ()

    @precondition(has_lease)
    @rule(pick=PICK, caused_by=CAUSES, reason=REASONS, saved_ms=st.sampled_from([0, 0, 0, 1]))
    def lose(self, pick: int, caused_by: str, reason: str, saved_ms: int) -> None:
        before, lease = self.item, self.one(pick)
        self.now += 1
        lease = msgspec.structs.replace(lease, caused_by=caused_by, reason=reason, saved_ms=saved_ms, ended_at=self.now)
        self.becomes(without(before, lease))
        assert lease.id not in self.item.leases
        assert self.item.votes == before.votes
        blamed = caused_by == "provider" and lease.started_at is not None
        self.lost = (0 if saved_ms else self.lost) + blamed
        assert len(self.item.shunned) >= self.lost
        assert self.item.checkpoint == (
            None if reason == CHECKPOINT_UNUSABLE and lease.resume == BLOB else before.checkpoint
        )
        if self.item.state is ItemState.FAILED:
            assert len(self.item.shunned) >= LOSSES_MAX
        self.check_given_back(before, lease, again=reason == CHECKPOINT_UNUSABLE and lease.resume is not None)

    def check_given_back(self, before: Item, lease: Lease, *, again: bool) -> None:
        """What is nobody's fault fails nothing, and only what comes on is tried as often as it ends."""
        since = () if lease.saved_ms else before.given_back
        if lease.caused_by == "nobody" and lease.started_at is not None and not again:
            assert self.item.given_back == (*since, lease.node)[-GIVEN_BACK_MAX:]
            assert self.item.again_at - self.now in {0, *(AGAIN_MS << n for n in range(AGAIN_DOUBLINGS_MAX + 1))}
            assert (self.item.again_at > self.now) == bool(since)
            assert self.item.state is not ItemState.FAILED
        elif not again:
            assert self.item.given_back == since

    @precondition(has_lease)
    @rule()
    def save(self) -> None:
        self.item = msgspec.structs.replace(self.item, checkpoint=BLOB)

    # What is decided

    @precondition(judged)
    @rule()
    def conclude(self) -> None:
        """As the market does: once as many votes are there as are wanted, or one more is asked for."""
        if self.item.lacks_lease:
            return
        judgement = judge(self.item.votes, self.item.wanted)
        if judgement is None:
            self.item = msgspec.structs.replace(self.item, wanted=len(self.item.votes) + 1)
            return
        before = self.item
        self.becomes(concluded(before, judgement, self.job))
        if self.item.state is ItemState.DONE:
            assert not self.job.order.until_stopped, "what has no end is not done by itself"
            assert self.item.result == judgement.right[0].result
        elif self.item.state is ItemState.WAITING:
            assert self.item.failures == before.failures + 1 <= self.job.order.retries
            assert not self.item.votes
        else:
            assert self.item.state is ItemState.FAILED
        hit = set(self.item.shunned) - set(before.shunned)
        assert hit == ({vote.node for vote in judgement.wrong} if self.job.needs.proves else set())

    @precondition(lambda self: open_(self) and not self.item.leases)
    @rule(reason=st.sampled_from([BUYER_CANCELLED, "operator.banned"]))
    def cancel(self, reason: str) -> None:
        self.becomes(cancelled(self.item, self.job.order, reason))
        wished = self.job.order.until_stopped and reason == BUYER_CANCELLED
        assert self.item.state is (ItemState.DONE if wished else ItemState.CANCELLED)

    @precondition(lambda self: self.item.state in FINAL)
    @rule()
    def is_over(self) -> None:
        """Nothing is placed for it any more, and its job is over."""
        assert not self.item.lacks_lease
        assert after_items(self.job, [self.item], 7).state is not JobState.RUNNING

    # What must hold

    @invariant()
    def where_it_stands_follows_from_its_leases_and_votes(self) -> None:
        if not hasattr(self, "item"):
            return
        item = self.item
        assert len(set(item.leases)) == len(item.leases)
        assert not set(item.leases) & {vote.lease for vote in item.votes}
        assert item.failures <= self.job.order.retries + 1
        if item.state in FINAL:
            assert not item.leases
            assert not item.lacks_lease
            assert item.reason or item.state is ItemState.DONE
        elif item.votes:
            assert item.state is ItemState.CHECKING
        elif item.leases:
            assert item.state in {ItemState.PLACED, ItemState.RUNNING}
        else:
            assert (item.state, item.node) == (ItemState.WAITING, item.node)

    @invariant()
    def the_job_ends_with_its_items_and_as_the_worst_of_them(self) -> None:
        if not hasattr(self, "item"):
            return
        done = Item(index=1, state=ItemState.DONE)
        ended = after_items(self.job, [done, self.item], 7)
        if self.item.state in FINAL:
            assert (ended.state.value, ended.ended_at) == (self.item.state.value, 7)
        else:
            assert ended == self.job
        assert after_items(self.job, [done], 7).state is JobState.DONE


JobMachine.TestCase.settings = settings(max_examples=2 * settings().max_examples, stateful_step_count=40)
TestJobs = JobMachine.TestCase
