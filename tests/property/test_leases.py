"""The life of a lease under any order of events, hostile ones included (invariant 3)."""

# ruff: noqa: D101, D102 - the names of the machine's steps say what they do

from __future__ import annotations

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fallow.domain.billing import FeePolicy, charge, deposit
from fallow.domain.lease_events import (
    Accepted,
    Declined,
    Effect,
    Ended,
    Event,
    Free,
    Judged,
    Lost,
    Refused,
    Release,
    Reported,
    Reserve,
    Saved,
    Settle,
    Stop,
    StopAsked,
    Undecided,
    Unfunded,
    Vote,
    Wasted,
)
from fallow.domain.leases import Lease, LeaseState, propose, step
from fallow.domain.resources import Resources
from fallow.domain.verification import Verdict
from fallow.domain.windows import windows_max

START = 1_000_000
SPANS = st.sampled_from([0, 1, 250, 5000, 10_000, 31_000])
USES = st.one_of(st.integers(0, 12_000), st.sampled_from([10_000, 10_001, 1 << 62]))
REASONS = st.sampled_from(["", "program.failed", "node.paused"])
CAUSES = st.sampled_from(["buyer", "provider", "owner", "nobody"])


def free_of_money(machine: LeaseMachine) -> bool:
    """No further record of a lease is applied while its money moves."""
    return machine.awaited is None


class LeaseMachine(RuleBasedStateMachine):
    @initialize(
        price=st.sampled_from([0, 1, 359_999, 7_777_777]),
        limit_ms=st.sampled_from([1, 9999, 10_000, 25_000, 40_000]),
        network_pays=st.booleans(),
        until_stopped=st.booleans(),
    )
    def begin(self, price: int, limit_ms: int, network_pays: bool, until_stopped: bool) -> None:
        self.now = START
        self.lease = Lease(
            id=bytes(16),
            job="",
            item=0,
            payer=b"" if network_pays else bytes(20),
            payee=b"p" * 20,
            node=b"n" * 32,
            boot=1,
            resources=Resources(cpu_milli=1, memory_mib=1),
            price_microusd_per_hour=price,
            price_version=1,
            window_ms=10_000,
            time_limit_ms=limit_ms,
            proposed_at=START,
            answer_by=START + 5000,
            until_stopped=until_stopped,
        )
        self.awaited: Reserve | None = None
        self.open: set[int] = set()
        self.reserved: list[int] = []
        self.closed: list[int] = []
        self.meter = self.free = self.ended = self.votes = self.undecided = self.wasted_ms = 0
        self.kept_ms: list[int] = []
        """What is kept of each window that no checkpoint backs."""
        self.follow(self.lease, *propose(self.lease))

    # What is sent

    def send(self, event: Event) -> None:
        before = self.lease
        after, effects = step(before, event)
        if any(isinstance(effect, Refused) for effect in effects):
            assert len(effects) == 1
            assert after == before
            return
        assert before.state is not LeaseState.ENDED
        self.follow(before, after, effects)

    def follow(self, before: Lease, after: Lease, effects: tuple[Effect, ...]) -> None:  # noqa: C901 - one case each
        self.lease = after
        for effect in effects:
            match effect:
                case Reserve():
                    self.wants(effect)
                case Settle():
                    self.settles(before, effect)
                    if effect.following is not None:
                        self.wants(effect.following)
                case Release(window):
                    self.closes(window)
                    self.kept_ms = []
                case Wasted(lost_ms):
                    self.wasted_ms += lost_ms
                case Free():
                    self.free += 1
                case Vote():
                    self.votes += 1
                case Undecided():
                    self.undecided += 1
                case Ended(ok=ok, paid=paid):
                    self.ended += 1
                    assert ok == (after.ok and paid)
                case Stop():
                    assert before.state in {LeaseState.PROPOSED, LeaseState.RUNNING}
                case Refused():
                    raise AssertionError("a refusal has other effects")

    def wants(self, reserve: Reserve) -> None:
        assert reserve.amount_microusd == self.lease.deposit_microusd
        assert self.lease.window == reserve.window
        assert self.awaited is None
        assert not self.open
        self.awaited = reserve

    def settles(self, before: Lease, settle: Settle) -> None:
        """What is charged is covered by what was kept, window by window, and by what the open one holds."""
        price, available = before.price_microusd_per_hour, 0
        if before.held:
            self.closes(settle.window)
            available = before.deposit_microusd
        if settle.used_ms:
            available += sum(deposit(price, kept) for kept in self.kept_ms)
            self.kept_ms = []
        self.meter, owed = charge(self.meter, price, settle.used_ms, FeePolicy())
        assert owed.total + deposit(price, settle.kept_ms) <= available
        assert 0 <= settle.kept_ms <= before.window_limit_ms
        self.kept_ms += [settle.kept_ms] if settle.kept_ms else []

    def closes(self, window: int) -> None:
        assert window in self.open
        self.open.remove(window)
        self.closed.append(window)

    # What the ledger answers

    @precondition(lambda self: self.awaited is not None)
    @rule()
    def held(self) -> None:
        assert self.awaited is not None
        self.reserved.append(self.awaited.window)
        self.open.add(self.awaited.window)
        self.awaited = None
        self.lease = msgspec.structs.replace(self.lease, held=((1, 1),))

    @precondition(lambda self: self.awaited is not None)
    @rule(reason=st.sampled_from(["", "buyer.budget"]))
    def not_held(self, reason: str) -> None:
        self.awaited = None
        self.send(Unfunded(self.now, reason))
        assert self.lease.state is LeaseState.ENDED

    # What nodes, buyers and the clock say, whether it fits or not

    @rule(ms=SPANS)
    def wait(self, ms: int) -> None:
        self.now += ms

    @precondition(free_of_money)
    @rule(times=st.integers(1, 2))
    def accept(self, times: int) -> None:
        for _ in range(times):
            self.send(Accepted(self.now))

    @precondition(free_of_money)
    @rule(reason=REASONS)
    def decline(self, reason: str) -> None:
        before = self.lease.state
        self.send(Declined(self.now, reason or "node.declined"))
        assert before is LeaseState.PROPOSED or self.lease.state is before

    @precondition(free_of_money)
    @rule(shift=st.sampled_from([0, 0, 0, -1, 1, 2]), used_ms=USES)
    def interim(self, shift: int, used_ms: int) -> None:
        before = self.lease
        self.send(Reported(self.now, before.window + shift, used_ms, False, False, "", "nobody"))
        assert shift == 0 or self.lease == before

    @precondition(free_of_money)
    @rule(shift=st.sampled_from([0, 0, 0, -1, 1]), used_ms=USES, ok=st.booleans(), reason=REASONS, caused_by=CAUSES)
    def final(self, shift: int, used_ms: int, ok: bool, reason: str, caused_by: str) -> None:
        before = self.lease
        receipt = Reported(self.now, before.window + shift, used_ms, True, ok, reason, caused_by)
        self.send(receipt)
        self.send(receipt)
        assert shift == 0 or self.lease == before
        if self.lease.state is LeaseState.ENDED and not self.lease.ok and caused_by in {"provider", "owner"}:
            paid_ms = self.lease.used_ms - before.charged_ms
            assert paid_ms <= max(0, before.saved_ms - before.charged_ms) or (
                before.until_stopped and caused_by == "owner"
            )
            assert paid_ms <= before.unbacked_ms + used_ms

    @precondition(free_of_money)
    @rule(used_ms=USES)
    def save(self, used_ms: int) -> None:
        """A checkpoint moves no money; only a running lease has one, and it only grows."""
        before = self.lease
        self.send(Saved(self.now, used_ms))
        assert msgspec.structs.replace(self.lease, saved_ms=before.saved_ms) == before
        assert before.saved_ms <= self.lease.saved_ms <= self.now - before.proposed_at
        assert before.state is LeaseState.RUNNING or self.lease == before

    @precondition(free_of_money)
    @rule(verdict=st.sampled_from(Verdict))
    def judge(self, verdict: Verdict) -> None:
        """Whatever the verdict, the same one or another comes too late once it is given."""
        before = self.lease
        self.send(Judged(self.now, verdict))
        if before.state is not LeaseState.REPORTED:
            assert self.lease == before
            return
        paid_ms = self.lease.used_ms - before.charged_ms
        assert paid_ms == (0 if verdict is Verdict.REJECTED else before.unbacked_ms + before.claim_ms)
        assert self.undecided == (verdict is Verdict.INCONCLUSIVE)
        causes = {Verdict.REJECTED: "provider", Verdict.INCONCLUSIVE: "nobody", Verdict.ACCEPTED: before.caused_by}
        assert self.lease.caused_by == causes[verdict]

    @precondition(free_of_money)
    @rule()
    def stop(self) -> None:
        self.send(StopAsked(self.now, "buyer.cancelled", "buyer"))

    @precondition(free_of_money)
    @rule(times=st.integers(1, 2))
    def lose(self, times: int) -> None:
        """After a provider's fault nobody pays for what no checkpoint holds, and he is not made good."""
        before = self.lease
        for _ in range(times):
            self.send(Lost(self.now, "node.vanished"))
        if before.holds_capacity:
            assert self.lease.used_ms <= max(before.saved_ms, before.used_ms if before.until_stopped else 0)
            assert not self.wasted_ms

    # What must hold

    @invariant()
    def each_window_is_reserved_once_and_closed_once(self) -> None:
        if not hasattr(self, "lease"):
            return
        assert len(self.open) <= 1
        assert len(set(self.reserved)) == len(self.reserved)
        assert sorted([*self.closed, *self.open]) == self.reserved
        assert self.reserved == list(range(len(self.reserved)))
        assert len(self.reserved) <= windows_max(self.lease.time_limit_ms, self.lease.window_ms)

    @invariant()
    def no_more_is_paid_than_can_be(self) -> None:
        if not hasattr(self, "lease"):
            return
        lease = self.lease
        assert lease.used_ms + lease.claim_ms <= min(lease.time_limit_ms, self.now - lease.proposed_at)
        assert self.meter == lease.charged_ms * lease.price_microusd_per_hour
        assert sum(self.kept_ms) == lease.unbacked_ms
        assert lease.until_stopped is False or not lease.unbacked_ms

    @invariant()
    def before_the_end_only_what_a_checkpoint_holds_is_charged(self) -> None:
        if hasattr(self, "lease") and self.lease.state is not LeaseState.ENDED and not self.lease.until_stopped:
            assert self.lease.charged_ms <= self.lease.saved_ms

    @invariant()
    def an_end_is_complete(self) -> None:
        if not hasattr(self, "lease"):
            return
        lease = self.lease
        assert self.free == (not lease.holds_capacity)
        assert self.ended == (lease.state is LeaseState.ENDED)
        assert self.votes <= 1
        if lease.state is LeaseState.ENDED:
            assert not self.open
            assert self.awaited is None
            assert not lease.held
            assert not self.kept_ms
            assert lease.ended_at is not None
            assert lease.caused_by
            assert lease.reason


LeaseMachine.TestCase.settings = settings(max_examples=2 * settings().max_examples, stateful_step_count=30)
TestLeases = LeaseMachine.TestCase
