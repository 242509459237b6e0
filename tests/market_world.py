"""The market's real rounds in a world of plain dictionaries: no loop, no sockets, no engine, time by hand.

`World` runs `Rounds` as it is over in-memory twins of its stores and the in-memory ledger. After each round it checks
every invariant that must always hold, and that a process that starts now would load exactly this state.
"""

# ruff: noqa: D102 - what happens in it is named by what it does

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

import msgspec

from fallow.adapters.memory.budgets import MemoryBudgetStore
from fallow.adapters.memory.checks import MemoryCheckStore
from fallow.adapters.memory.database import MemoryTransaction
from fallow.adapters.memory.decisions import MemoryDecisionStore
from fallow.adapters.memory.ledger import MemoryLedger
from fallow.domain import calls
from fallow.domain.batches import seal_batch
from fallow.domain.billing import FeePolicy
from fallow.domain.chart import NETWORK, Credit, Kind, Purpose, account_id, accounts_of, fund, network_accounts
from fallow.domain.checks import Starting
from fallow.domain.decisions import Decision
from fallow.domain.errors import Conflict, FallowError, Unavailable
from fallow.domain.facts import (
    LeaseAccepted,
    LeaseCheckpoint,
    LeaseDeclined,
    NodeShown,
    OfferMade,
    SpotOfferMade,
    UsageReceipt,
)
from fallow.domain.fees import Fees
from fallow.domain.identity import address, address_text
from fallow.domain.jobs import Needs
from fallow.domain.ledger import transfer
from fallow.domain.orders import Order
from fallow.domain.records import Body, Record, make_record
from fallow.domain.resources import Resources, Terms
from fallow.domain.verification import CONFIRMED, TRUSTED_AFTER, learned
from fallow.domain.views.money import BudgetView
from fallow.ports.ingest_store import LoggedBatch
from fallow.services.market.brain import Brain
from fallow.services.market.inputs import Input, Submission, Waiting
from fallow.services.market.money import Cashier
from fallow.services.market.rounds import Rounds
from fallow.services.market.seeds import Seeds
from fallow.services.settle.budgets import Budgets
from tests.market_invariants import DAY_MS, Invariants
from tests.market_twins import START, TERM, Answer, Db, Enrolled, Log, Node, Sent, Store, finish

NET = "test"
WINDOW_MS = 10_000


def buyer(number: int) -> bytes:
    """An account that buys."""
    return hashlib.sha256(b"buyer%d" % number).digest()[:20]


class World:
    """`lines` is on how many networks its nodes are seen."""

    def __init__(
        self,
        *,
        nodes: int = 4,
        lines: int = 100,
        buyers: int = 2,
        fee: FeePolicy = FeePolicy(),  # noqa: B008 - immutable
        starting: Starting = Starting(),  # noqa: B008 - immutable
    ) -> None:
        self.now = START
        self.fee = fee
        self.fees = Fees(fee)
        self.starting = starting
        self.window_ms = WINDOW_MS
        self.nodes = [Node(number) for number in range(nodes)]
        self.buyers = [buyer(number) for number in range(buyers)]
        self.db, self.store, self.log, self.sent = Db(), Store(), Log(), Sent()
        self.registry = Enrolled(self.nodes, lines)
        self.checks, self.decisions = MemoryCheckStore(), MemoryDecisionStore()
        self.ledger, self.budgets = MemoryLedger(), MemoryBudgetStore()
        self.granted: Counter[bytes] = Counter()
        self.bound: dict[bytes, int] = {}
        """What each account with a budget spent of it and has reserved, as it was last seen."""
        self.fees_funded = 0
        self.reserve_funded = 0
        self.cancels: list[tuple[str, Answer]] = []
        self.heard: list[Record] = []
        self.said: set[tuple[bytes, bytes, str]] = set()
        self._grants = 0
        tx = MemoryTransaction()
        finish(self.ledger.open_accounts(tx, network_accounts()))
        for owner in self.buyers:
            finish(self.ledger.open_accounts(tx, accounts_of(owner)))
        self.restart()

    @property
    def brain(self) -> Brain:
        return self.rounds.brain

    def now_ms(self) -> int:
        return self.now

    async def sleep(self, _: float) -> None:
        """Nobody else is there."""

    # What happens in it

    def restart(self) -> None:
        """The market's process dies, and another takes over."""
        self.rounds = Rounds(
            holder="market",
            fees=self.fees,
            starting=self.starting,
            seeds=Seeds(
                net=NET,
                secret=b"check",
                sign=lambda _: bytes(64),
                epoch_ms=DAY_MS,
                store=self.checks,
                decisions=cast("Any", self.decisions),
            ),
            window_ms=self.window_ms,
            clock=cast("Any", self),
            database=cast("Any", self.db),
            store=cast("Any", self.store),
            log_store=cast("Any", self.log),
            decisions=cast("Any", self.decisions),
            registry=cast("Any", self.registry),
            cashier=Cashier(cast("Any", self.ledger), self.budgets),
            outbound=cast("Any", self.sent),
        )
        finish(self.rounds._load(cast("Any", MemoryTransaction())))

    def ask(self, what: Input | Submission) -> Answer:
        """Put an input where the next round takes it from."""
        answer = Answer()
        self.rounds._put(Waiting(what, cast("Any", answer)))
        return answer

    def submit(self, order: Order, account: bytes) -> Answer:
        """A work that says so has results that can be compared (by its buyer's word alone), or keeps checkpoints."""
        secret = bool(order.work.get("secrets"))
        blobs, fetched = (tuple(order.work.get(name, ())) for name in ("blobs", "fetched"))
        program = order.work.get("program", "")
        proves = not (order.work.get("buyers_word") or program)
        needs = Needs(
            compares=bool(order.work.get("compares")),
            checkpoints=bool(order.work.get("checkpoints")),
            secrets=("KEY",) if secret else (),
            blobs=blobs,
            fetched=fetched,
            proves=proves,
            program=program,
        )
        return self.ask(Submission(order, account, needs, locked=b"locked" if secret else None))

    def cancel(self, job_id: str, account: bytes) -> Answer:
        answer = self.ask(lambda brain, now: brain.cancel(now, job_id=job_id, account=account))
        self.cancels.append((job_id, answer))
        return answer

    def record(self, node: Node, body: Body) -> None:
        """A node's record reaches ingest's log."""
        record, _ = make_record(
            body, net=NET, node=node.id, boot=node.boot, seq=node.seq, at=self.now, new_salt=lambda: bytes(32)
        )
        node.seq += 1
        self.heard.append(record)
        self.said.add((node.id, getattr(body, "lease", b""), body.kind))
        self.append(node.id, seal_batch([record], lambda _: bytes(64)))

    def append(self, node: bytes, data: bytes) -> None:
        self.log.batches.append(LoggedBatch(len(self.log.batches) + 1, node, data, self.now))
        self.rounds._log_has_news = True

    def offer(
        self,
        node: Node,
        total: Resources,
        terms: Terms,
        *,
        is_open: bool = True,
        spot: Terms | None = None,
        attributes: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        node.offers += 1
        fields: dict[str, Any] = {"offer": node.offers, "open": is_open, "total": total, "terms": terms}
        fields["attributes"] = dict(attributes)
        self.record(node, OfferMade(**fields) if spot is None else SpotOfferMade(spot=spot, **fields))

    def accept(self, node: Node, lease: bytes) -> None:
        self.record(node, LeaseAccepted(lease=lease))

    def decline(self, node: Node, lease: bytes) -> None:
        self.record(node, LeaseDeclined(lease=lease, reason="node.paused"))

    def final(self, node: Node, lease: bytes, window: int, used_ms: int, **fields: Any) -> None:
        fields = {"ok": True, "result": bytes(32), **fields}
        self.record(node, UsageReceipt(lease=lease, window=window, used_ms=used_ms, final=True, **fields))

    def interim(self, node: Node, lease: bytes, window: int, used_ms: int) -> None:
        self.record(node, UsageReceipt(lease=lease, window=window, used_ms=used_ms, final=False))

    def save(self, node: Node, lease: bytes, used_ms: int, blob: bytes) -> None:
        self.record(node, LeaseCheckpoint(lease=lease, window=0, used_ms=used_ms, blob=blob))

    def beat(self, node: Node, leases: Sequence[bytes] = ()) -> None:
        boot = node.boot
        self.ask(lambda brain, now: brain.beat(now, node=node.id, boot=boot, leases=leases))

    def reboot(self, node: Node) -> None:
        node.boot, node.seq, node.alive = node.boot + 1, 0, True

    def grant(self, account: bytes, amount: int, credit: Credit = Credit.GRANTED) -> None:
        """Money comes in."""
        self._grants += 1
        entry = transfer(
            self._grants.to_bytes(16, "big"),
            account_id(Purpose.ISSUER, credit),
            account_id(Purpose.WALLET, credit, account),
            amount,
            credit.value,
            Kind.GRANT.value,
        )
        assert all(result.ok for result in finish(self.ledger.post(MemoryTransaction(), [entry], self.now)))
        self.granted[account] += amount
        self.ask(lambda brain, now: brain.funded(now, account=account))

    def budget(self, account: bytes, microusd: int | None) -> BudgetView:
        """An account says what it may spend a month."""
        request = calls.money.SetBudget(
            account=address_text(account), budget=calls.money.MonthlyBudget(budget_microusd=microusd)
        )
        return finish(self._budgets().set(request))

    def budget_of(self, account: bytes) -> BudgetView:
        return finish(self._budgets().show(calls.base.AccountRef(account=address_text(account))))

    def _budgets(self) -> Budgets:
        """Settle's own process, whose connection to the database does not fail when the market's does."""
        bus: Any = self
        return Budgets(bus=bus, clock=bus, database=cast("Any", Db()), ledger=self.ledger, store=self.budgets)

    async def publish(self, subject: str, data: bytes) -> None:
        """What settle says the market hears."""
        assert subject == calls.money.CREDITED
        account = address(data.decode())
        self.ask(lambda brain, now: brain.funded(now, account=account))

    def ban(self, *banned: bytes) -> None:
        """The operator shuts these out, and lets all others in."""
        self.registry.bans = frozenset(banned)
        self.rounds.bans_changed()

    def fund(self, amount: int) -> None:
        """The operator pays for checks."""
        self._grants += 1
        self.fees_funded += amount
        entry = fund(str(self._grants), Purpose.FEE, amount)
        assert all(result.ok for result in finish(self.ledger.post(MemoryTransaction(), [entry], self.now)))
        self.ask(lambda brain, now: brain.funded(now, account=NETWORK))

    def prove(self, node: Node) -> None:
        """The node gives enough right results, beside what it has shown before."""
        results = [Decision(self.now, NodeShown(node=node.id, what=CONFIRMED))] * TRUSTED_AFTER
        standing = self.brain.judging.standing(node.id)
        for _ in results:
            standing = learned(standing, self.now, CONFIRMED, "")
        finish(self.decisions.add(MemoryTransaction(), results))
        self.brain.judging.standings[node.id] = standing
        self.store.standings[node.id] = msgspec.json.encode(standing)

    def fund_reserve(self, amount: int) -> None:
        """The operator provides for lost work."""
        self._grants += 1
        self.reserve_funded += amount
        entry = fund(str(self._grants), Purpose.RESERVE, amount)
        assert all(result.ok for result in finish(self.ledger.post(MemoryTransaction(), [entry], self.now)))

    def wait(self, ms: int) -> None:
        """Time passes, and whoever lives shows it."""
        self.now += ms
        for node in self.nodes:
            if node.alive:
                self.beat(node)

    def round(self) -> bool:
        """One round; when it fails the market loads again. False when it failed. Then check everything."""
        known = set(self.store.leases)
        try:
            finish(self.rounds._round(TERM))
        except (Unavailable, Conflict):
            self.rounds._inputs.fail()
            finish(self.rounds._load(cast("Any", MemoryTransaction())))
            self.check()
            return False
        self.check()
        Invariants(self).check_sold_once(set(self.store.leases) - known)
        return True

    def settle(self, rounds_max: int = 50) -> None:
        """Rounds until nothing waits."""
        for _ in range(rounds_max):
            self.round()
            if not self.rounds._more_to_do():
                return
        raise AssertionError("the rounds never come to rest")

    def check(self) -> None:
        """Check that all holds that must."""
        Invariants(self).check()


def failed(answer: Answer) -> str:
    """Code of the error that an input got; empty when it was taken."""
    assert answer.given
    return answer.error.code if isinstance(answer.error, FallowError) else ""
