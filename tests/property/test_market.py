"""The market against nodes and buyers that do what they like: nothing is sold twice, lost, or paid twice.

Drives the real rounds (`tests/market_world.py`), which checks all invariants after each of them.
"""

# ruff: noqa: D101, D102 - the names of the machine's steps say what they do

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from fallow.domain.chart import Credit
from fallow.domain.facts import LeaseAccepted, LeaseCheckpoint, LeaseDeclined, UsageReceipt
from fallow.domain.fees import FEE_MAX_PPM, FeeWord
from fallow.domain.leases import Lease, LeaseState
from fallow.domain.orders import Order, Requirements
from fallow.domain.resources import Resources, Terms
from tests.market_twins import Answer, Node
from tests.market_world import World, failed

PICK = st.integers(0, 1000)
BIG = Resources(cpu_milli=8000, memory_mib=8000, disk_mib=8000)
TIGHT = Resources(cpu_milli=3000, memory_mib=8000, disk_mib=8000)
"""Room for few leases at a time, so that orders on demand take it from spot leases."""

TOTALS = st.builds(
    Resources,
    cpu_milli=st.sampled_from([500, 1000, 2000, 2500]),
    memory_mib=st.sampled_from([256, 512, 1100]),
    disk_mib=st.just(1000),
)
TERMS = st.builds(
    Terms,
    price_microusd_per_core_hour=st.sampled_from([0, 1, 359, 100_000, 7_777_777]),
    price_microusd_per_gib_hour=st.sampled_from([0, 3]),
)
ORDERS = st.fixed_dictionaries(
    {
        "items": st.sampled_from([0, 0, 2, 3]),
        "cpu_milli": st.sampled_from([500, 1000, 2000]),
        "budget_microusd": st.sampled_from([None, None, 40, 300, 700, 60_000]),
        "time_limit_s": st.sampled_from([5, 25, 40]),
        "spot": st.booleans(),
        "retries": st.sampled_from([0, 0, 1]),
        "until_stopped": st.sampled_from([False, False, True]),
        "replicas": st.sampled_from([1, 1, 2, 3]),
        "work": st.sampled_from([{}, {"compares": True}, {"checkpoints": True}, {"secrets": True}]),
        "max_price_microusd_per_hour": st.sampled_from([20, 100_000_000]),
    }
)
USED = st.sampled_from([10_000, 5000, 0, 1, 999, 10_001, 1 << 62])
CAUSES = st.sampled_from(["buyer", "provider", "owner", "nobody"])
REASONS = st.sampled_from(["", "program.failed", "buyer.insufficient_funds", "buyer.cancelled", "node.paused"])
RESULTS = st.sampled_from([bytes(32), bytes(32), b"1" * 32, None])
BLOBS = st.sampled_from([b"1" * 32, b"2" * 32])
HOSTILE = st.one_of(
    st.builds(lambda: {"body": LeaseAccepted}),
    st.builds(lambda reason: {"body": LeaseDeclined, "reason": reason}, REASONS),
    st.builds(
        lambda used_ms, blob: {"body": LeaseCheckpoint, "window": 0, "used_ms": used_ms, "blob": blob}, USED, BLOBS
    ),
    st.fixed_dictionaries(
        {
            "body": st.just(UsageReceipt),
            "window": st.integers(0, 4),
            "used_ms": USED,
            "final": st.booleans(),
            "ok": st.booleans(),
            "reason": REASONS,
            "caused_by": CAUSES,
            "result": RESULTS,
        }
    ),
)
PAUSES = st.sampled_from([0, 0, 1000, 9000, 10_000])
LATER = st.sampled_from([False, False, True])
"""Whether the next step comes before the market's next round."""


def proposed(machine: MarketMachine) -> bool:
    """A node can answer."""
    return machine.has(LeaseState.PROPOSED)


def running(machine: MarketMachine) -> bool:
    """A node can report."""
    return machine.has(LeaseState.RUNNING)


class MarketMachine(RuleBasedStateMachine):
    @initialize(
        amounts=st.lists(st.sampled_from([500, 30_000, 10**9, 0]), min_size=2, max_size=2),
        orders=st.lists(ORDERS, max_size=3),
        accepted=st.booleans(),
    )
    def begin(self, amounts: list[int], orders: list[dict[str, Any]], accepted: bool) -> None:
        self.world = World(nodes=6, lines=5)
        self.orders: list[tuple[Order, bytes]] = []
        for account, amount in zip(self.world.buyers, amounts, strict=True):
            if amount:
                self.world.grant(account, amount)
        for node in self.world.nodes[:3]:
            self.world.offer(
                node,
                TIGHT,
                Terms(price_microusd_per_core_hour=100_000),
                spot=Terms(price_microusd_per_core_hour=50_000),
            )
        self.world.round()
        for number, wanted in enumerate(orders):
            self.submit_one(number, wanted)
        self.world.round()
        if accepted:
            self.accept_all(later=False)

    def then(self, later: bool) -> None:
        if not later:
            self.world.round()

    def node(self, pick: int) -> Node:
        """One of those that may misbehave; the last two begin when everything heals."""
        return self.world.nodes[pick % 4]

    def pick(self, pick: int, state: LeaseState) -> tuple[Node, Lease] | None:
        """An open lease and its node."""
        found = [lease for lease in self.world.brain.leases.values() if lease.state is state]
        if not found:
            return None
        lease = found[pick % len(found)]
        return next(node for node in self.world.nodes if node.id == lease.node), lease

    def has(self, state: LeaseState) -> bool:
        return any(lease.state is state for lease in self.world.brain.leases.values())

    def pause(self, ms: int) -> None:
        if ms:
            self.world.wait(ms)

    # Nodes

    @rule(
        pick=PICK,
        total=TOTALS,
        terms=TERMS,
        is_open=st.sampled_from([True, True, False]),
        spot=st.one_of(st.none(), TERMS),
        later=LATER,
    )
    def offer(self, pick: int, total: Resources, terms: Terms, is_open: bool, spot: Terms | None, later: bool) -> None:
        self.world.offer(self.node(pick), total, terms, is_open=is_open, spot=spot)
        self.then(later)

    @rule(pick=PICK, later=LATER)
    def vanish(self, pick: int, later: bool) -> None:
        self.node(pick).alive = False
        self.then(later)

    @rule(pick=PICK, later=LATER, beats=st.booleans())
    def reboot(self, pick: int, later: bool, beats: bool) -> None:
        self.world.reboot(self.node(pick))
        if beats:
            self.world.beat(self.node(pick))
        self.then(later)

    @precondition(proposed)
    @rule(pick=PICK, later=LATER)
    def accept(self, pick: int, later: bool) -> None:
        found = self.pick(pick, LeaseState.PROPOSED)
        if found:
            self.world.accept(found[0], found[1].id)
        self.then(later)

    @precondition(proposed)
    @rule(later=LATER)
    def accept_all(self, later: bool) -> None:
        for lease in list(self.world.brain.leases.values()):
            if lease.state is LeaseState.PROPOSED:
                self.world.accept(next(node for node in self.world.nodes if node.id == lease.node), lease.id)
        self.then(later)

    @precondition(proposed)
    @rule(pick=PICK, later=LATER)
    def decline(self, pick: int, later: bool) -> None:
        found = self.pick(pick, LeaseState.PROPOSED)
        if found:
            self.world.decline(found[0], found[1].id)
        self.then(later)

    @precondition(running)
    @rule(pick=PICK, after_ms=PAUSES, later=LATER, used_ms=USED, result=RESULTS)
    def finish(self, pick: int, after_ms: int, later: bool, used_ms: int, result: bytes | None) -> None:
        self.pause(after_ms)
        found = self.pick(pick, LeaseState.RUNNING)
        if found:
            self.world.final(found[0], found[1].id, found[1].window, used_ms, result=result)
        self.then(later)

    @precondition(running)
    @rule(pick=PICK, later=LATER, used_ms=USED, caused_by=CAUSES, reason=REASONS)
    def fail(self, pick: int, later: bool, used_ms: int, caused_by: str, reason: str) -> None:
        found = self.pick(pick, LeaseState.RUNNING)
        if found:
            node, lease = found
            fields = {"ok": False, "result": None, "caused_by": caused_by, "reason": reason}
            self.world.final(node, lease.id, lease.window, used_ms, **fields)
        self.then(later)

    @rule(after_ms=PAUSES, fee_ppm=st.integers(0, FEE_MAX_PPM), reserve_ppm=st.sampled_from([0, 200_000, 1_000_000]))
    def change_fee(self, after_ms: int, fee_ppm: int, reserve_ppm: int) -> None:
        fees = self.world.fees
        fees.words = [*fees.words, FeeWord(self.world.now + after_ms, fee_ppm, reserve_ppm)]

    @precondition(running)
    @rule(pick=PICK, after_ms=PAUSES, later=LATER, used_ms=USED, windows=st.integers(1, 3), ends=st.booleans())
    def interim(self, pick: int, after_ms: int, later: bool, used_ms: int, windows: int, ends: bool) -> None:
        """Several receipts of a lease may come in one go: each waits until the money of the one before has moved."""
        self.pause(after_ms)
        found = self.pick(pick, LeaseState.RUNNING)
        if found:
            node, lease = found
            for window in range(lease.window, lease.window + windows):
                self.world.interim(node, lease.id, window, used_ms)
            if ends:
                self.world.final(node, lease.id, lease.window + windows, used_ms)
        self.then(later)

    @precondition(running)
    @rule(pick=PICK, after_ms=PAUSES, later=LATER, used_ms=USED, blob=BLOBS)
    def save(self, pick: int, after_ms: int, later: bool, used_ms: int, blob: bytes) -> None:
        """A checkpoint counts for the item that the lease works on, and for its next lease."""
        self.pause(after_ms)
        found = self.pick(pick, LeaseState.RUNNING)
        if found:
            self.world.save(found[0], found[1].id, used_ms, blob)
        self.then(later)

    # Hostile twins

    @rule(pick=PICK, node=PICK, fields=HOSTILE, known=st.sampled_from([True, True, False]), later=LATER)
    def lie(self, pick: int, node: int, fields: dict[str, Any], known: bool, later: bool) -> None:
        """Any node says anything about any lease, open, ended or invented."""
        leases = sorted(self.world.store.leases)
        lease = leases[pick % len(leases)] if leases and known else pick.to_bytes(16, "big")
        body = dict(fields)
        self.world.record(self.node(node), body.pop("body")(lease=lease, **body))
        self.then(later)

    @rule(pick=PICK, later=LATER)
    def replay(self, pick: int, later: bool) -> None:
        """A record comes once more, although ingest should have stopped it."""
        batches = [batch for batch in self.world.log.batches if b"offer.made" not in batch.data]
        if batches:
            batch = batches[pick % len(batches)]
            self.world.append(batch.node, batch.data)
        self.then(later)

    # Buyers

    @rule(pick=PICK, wanted=ORDERS, later=LATER)
    def submit(self, pick: int, wanted: dict[str, Any], later: bool) -> None:
        answer = self.submit_one(pick, wanted)
        self.then(later)
        assert later or failed(answer) in {"", "database.gone", "account.banned"}

    def submit_one(self, pick: int, wanted: dict[str, Any]) -> Answer:
        wanted = dict(wanted)
        order = Order(
            id=f"{len(self.orders):032x}",
            vertical="compute",
            items=[f"{index:064x}" for index in range(wanted.pop("items"))],
            requirements=Requirements(cpu_milli=wanted.pop("cpu_milli")),
            **wanted,
        )
        self.orders.append((order, self.world.buyers[pick % 2]))
        return self.world.submit(*self.orders[-1])

    @precondition(lambda self: self.orders)
    @rule(pick=PICK, foreign=st.booleans(), changed=st.booleans())
    def submit_again(self, pick: int, foreign: bool, changed: bool) -> None:
        """The same order answers the same, whenever it comes; another one under its id is refused."""
        order, account = self.orders[pick % len(self.orders)]
        if order.id not in self.world.store.jobs:
            return
        before = self.world.store.jobs[order.id]
        if changed:
            order = Order(id=order.id, vertical="compute", work={"other": 1})
        if foreign:
            account = next(other for other in self.world.buyers if other != account)
        answer = self.world.submit(order, account)
        written = self.world.round()
        if written:
            assert failed(answer) == ("order.id_taken" if foreign or changed else "")
        assert len(self.world.store.jobs[order.id]) >= len(before) - 8  # it went on, but was not begun anew

    @precondition(lambda self: self.orders)
    @rule(pick=PICK, foreign=st.sampled_from([False, False, True]), again=st.booleans(), later=LATER)
    def cancel(self, pick: int, foreign: bool, again: bool, later: bool) -> None:
        order, owner = self.orders[pick % len(self.orders)]
        account = next(other for other in self.world.buyers if foreign == (other != owner))
        answer = self.world.cancel(order.id, account)
        if again:
            self.world.submit(order, owner)
        self.then(later)
        assert later or not foreign or failed(answer) in {"job.unknown", "database.gone"}

    @rule(pick=PICK, amount=st.sampled_from([1, 700, 30_000]), credit=st.sampled_from(list(Credit)), later=LATER)
    def grant(self, pick: int, amount: int, credit: Credit, later: bool) -> None:
        self.world.grant(self.world.buyers[pick % 2], amount, credit)
        self.then(later)

    @rule(pick=PICK, microusd=st.sampled_from([None, 0, 300, 1500, 40_000]), later=LATER)
    def set_budget(self, pick: int, microusd: int | None, later: bool) -> None:
        """Raised, lowered below what is spent, or ended, whenever the buyer likes."""
        self.world.budget(self.world.buyers[pick % 2], microusd)
        self.then(later)

    @rule(amount=st.sampled_from([1, 30_000, 10**6]), later=LATER)
    def fund(self, amount: int, later: bool) -> None:
        self.world.fund(amount)
        self.then(later)

    # Operators

    @rule(picks=st.lists(PICK, max_size=2), whole=st.booleans(), later=LATER)
    def ban(self, picks: list[int], whole: bool, later: bool) -> None:
        """Nodes, or accounts with all that is theirs, buyers among them; all others are let in again."""
        nodes = [self.node(pick) for pick in picks]
        accounts = [*(node.account for node in nodes), *(self.world.buyers[pick % 2] for pick in picks[:1])]
        self.world.ban(*(accounts if whole else [node.id for node in nodes]))
        self.then(later)

    @rule(amount=st.sampled_from([1, 30_000, 10**6]), later=LATER)
    def fund_reserve(self, amount: int, later: bool) -> None:
        self.world.fund_reserve(amount)
        self.then(later)

    # Time and trouble

    @rule(ms=st.sampled_from([1, 250, 2000, 4999, 5000, 9999, 31_000, 80_000, 31 * 86_400_000]), later=LATER)
    def wait(self, ms: int, later: bool) -> None:
        self.world.wait(ms)
        self.then(later)

    @rule()
    def round(self) -> None:
        self.world.round()

    @rule()
    def restart(self) -> None:
        self.world.restart()
        self.world.check()

    @rule()
    def fail_to_write(self) -> None:
        self.world.db.fail = True
        self.world.round()

    # In the end

    def teardown(self) -> None:
        """Everything heals: then every job ends, and nothing stays reserved."""
        if not hasattr(self, "world"):
            return
        world = self.world
        world.db.fail = False
        world.ban()
        world.fund(10**12)
        for account in world.buyers:
            world.grant(account, 10**12)
            world.budget(account, None)
        for node in world.nodes:
            world.reboot(node)
            world.prove(node)
            world.offer(node, BIG, Terms(price_microusd_per_core_hour=1), spot=Terms(price_microusd_per_core_hour=1))
        for job_id, entry in list(world.brain.jobs.items()):
            if entry.job.order.until_stopped:
                world.cancel(job_id, entry.job.account)
        for number in range(80):
            world.wait(50 * 86_400_000 if number % 20 == 19 else 1000)  # the last suspension ends
            world.settle()
            if not world.brain.jobs:
                break
            self.work_honestly()
        assert not world.brain.jobs
        assert not world.brain.leases
        assert all(not account.debits_pending for account in world.ledger.accounts.values())

    def work_honestly(self) -> None:
        world = self.world
        nodes = {node.id: node for node in world.nodes}
        for lease in list(world.brain.leases.values()):
            node = nodes[lease.node]
            if lease.state is LeaseState.PROPOSED and lease in world.sent.proposals:
                world.accept(node, lease.id)
            elif lease.state is LeaseState.RUNNING and lease.boot == node.boot:
                world.final(node, lease.id, lease.window, 500)
        world.sent.proposals.clear()


MarketMachine.TestCase.settings = settings(max_examples=4 * settings().max_examples, stateful_step_count=60)
TestMarket = MarketMachine.TestCase
