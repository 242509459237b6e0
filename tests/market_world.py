"""The market's real rounds in a world of plain dictionaries: no loop, no sockets, no engine, time by hand.

`World` runs `Rounds` as it is over in-memory twins of its stores and the in-memory ledger. After each round it checks
every invariant that must always hold, and that a process that starts now would load exactly this state.
"""

# ruff: noqa: D101, D102 - the twins say what they are by the protocol that they stand for

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import product
from types import MappingProxyType
from typing import Any, TypeVar, cast

import msgspec

from fallow.adapters.memory.checks import MemoryCheckStore
from fallow.adapters.memory.database import MemoryTransaction
from fallow.adapters.memory.decisions import MemoryDecisionStore
from fallow.adapters.memory.ledger import MemoryLedger
from fallow.domain.batches import seal_batch
from fallow.domain.billing import HOUR_MS, FeePolicy, MeterKey, cumulative_charge
from fallow.domain.chart import (
    NETWORK,
    Credit,
    Kind,
    Purpose,
    _window_id,
    account_id,
    accounts_of,
    fund,
    network_accounts,
)
from fallow.domain.checks import Starting, StartKey
from fallow.domain.decisions import Decision
from fallow.domain.errors import Conflict, FallowError, Unavailable
from fallow.domain.facts import (
    LeaseAccepted,
    LeaseCheckpoint,
    LeaseDeclined,
    LeaseSettled,
    NodeShown,
    OfferMade,
    SpotOfferMade,
    UsageReceipt,
)
from fallow.domain.happenings import Happening
from fallow.domain.jobs import FINAL, Item, ItemState, Job, JobState, Needs
from fallow.domain.leases import NETWORK_FAILED, PREEMPTED, Lease, LeaseState
from fallow.domain.ledger import Balance, transfer
from fallow.domain.network_facts import RollAnswered, SeedDrawn
from fallow.domain.offers import Evidence, Offer, Refusal
from fallow.domain.orders import Order
from fallow.domain.records import Body, Record, make_record
from fallow.domain.reserve import Tally, TallyKey, halves
from fallow.domain.resources import Resources, Terms
from fallow.domain.verification import CONFIRMED, INCONCLUSIVE, OWN, PROVEN, TRUSTED_AFTER, VOUCHED, Standing, learned
from fallow.ports.ingest_store import LoggedBatch
from fallow.ports.market_store import Cursor, MarketRows, MarketState
from fallow.ports.registry_store import NodeRow
from fallow.services.market.brain import Brain
from fallow.services.market.changes import Changes
from fallow.services.market.decisions import PARTS
from fallow.services.market.entry import Entry
from fallow.services.market.floor import NOTHING
from fallow.services.market.inputs import Input, Submission, Waiting
from fallow.services.market.money import Cashier
from fallow.services.market.rounds import Rounds
from fallow.services.market.seeds import Seeds

T = TypeVar("T")

NET = "test"
WINDOW_MS = 10_000
START = 1_000_000
TERM = 1
DAY_MS = 24 * HOUR_MS


def finish(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return cast("T", stop.value)
    raise AssertionError("something waited in a world where nothing has to")


class Answer:
    """What a future is to an input's sender."""

    def __init__(self) -> None:
        self.value: Any = None
        self.error: BaseException | None = None
        self.given = False

    def done(self) -> bool:
        return self.given

    def set_result(self, value: object) -> None:
        self.given, self.value = True, value

    def set_exception(self, error: BaseException) -> None:
        self.given, self.error = True, error


class Db:
    """Transactions of the in-memory stores. `fail` makes the next one fail as it commits."""

    def __init__(self) -> None:
        self.fail = False

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[MemoryTransaction]:
        tx = MemoryTransaction()
        try:
            yield tx
            self._commit()
        except BaseException:
            tx.end(commit=False)
            raise
        tx.end(commit=True)

    def _commit(self) -> None:
        if self.fail:
            self.fail = False
            raise Unavailable("database.gone", "The database went away.")


class Store:
    """The market's store: each struct as JSON, as in PostgreSQL."""

    def __init__(self) -> None:
        self.jobs: dict[str, bytes] = {}
        self.items: dict[tuple[str, int], bytes] = {}
        self.leases: dict[bytes, bytes] = {}
        self.offer_docs: dict[bytes, bytes] = {}
        self.meters: dict[MeterKey, int] = {}
        self.meters_over: dict[tuple[MeterKey, int], int] = {}
        """What meters showed that were dropped, by how many were before."""
        self.tallies: dict[TallyKey, Tally] = {}
        self.starting: dict[StartKey, int] = {}
        self.refusals: dict[int, Refusal] = {}
        self.standings: dict[bytes, bytes] = {}
        self.evidence: dict[bytes, Evidence] = {}
        self.secrets: dict[str, bytes] = {}
        self.cursor: dict[str, Cursor] = {"": Cursor(0, 0)}

    async def lead(self, *_: object) -> int | None:
        return TERM

    async def confirm(self, *_: object) -> None:
        return

    async def load(self, _: object) -> MarketState:
        jobs = [job for job in self.all_jobs() if job.state is JobState.RUNNING]
        return MarketState(
            jobs=[(job, self.items_of(job)) for job in jobs],
            leases=[lease for lease in self.all_leases() if lease.state is not LeaseState.ENDED],
            meters=dict(self.meters),
            tallies=dict(self.tallies),
            standings={node: msgspec.json.decode(doc, type=Standing) for node, doc in self.standings.items()},
            secrets=dict(self.secrets),
            cursor=self.cursor[""],
            starting=dict(self.starting),
        )

    def all_offers(self) -> list[Offer]:
        return [msgspec.json.decode(offer, type=Offer) for offer in self.offer_docs.values()]

    async def offers(self, _: object, after: bytes, limit: int) -> list[Offer]:
        above = (one for one in self.all_offers() if one.node > after)
        return sorted(above, key=lambda one: one.node)[:limit]

    async def save(self, tx: MemoryTransaction, rows: MarketRows) -> None:
        for job in rows.jobs:
            tx.put(self.jobs, job.order.id, msgspec.json.encode(job))
        for key, item in rows.items.items():
            tx.put(self.items, key, msgspec.json.encode(item))
        for lease in rows.leases:
            tx.put(self.leases, lease.id, msgspec.json.encode(lease))
        for offer in rows.offers:
            tx.put(self.offer_docs, offer.node, msgspec.json.encode(offer))
        self._save_counts(tx, rows)
        for refusal in rows.refusals:
            tx.put(self.refusals, len(self.refusals), refusal)
        for node, standing in rows.standings.items():
            tx.put(self.standings, node, msgspec.json.encode(standing))
        self._save_secrets(tx, rows.secrets)
        for evidence in rows.evidence:
            tx.put(self.evidence, evidence.lease, evidence)
        tx.put(self.cursor, "", rows.cursor)

    def _save_counts(self, tx: MemoryTransaction, rows: MarketRows) -> None:
        for meter, price_ms in rows.meters.items():
            tx.put(self.meters, meter, price_ms)
        for number, meter in enumerate(rows.meters_over, len(self.meters_over)):
            tx.put(self.meters_over, (meter, number), self.meters[meter])
            tx.drop(self.meters, meter)
        for key, tally in rows.tallies.items():
            tx.put(self.tallies, key, tally)
        for start, spent in rows.starting.items():
            tx.put(self.starting, start, spent)

    def _save_secrets(self, tx: MemoryTransaction, secrets: Mapping[str, bytes | None]) -> None:
        for job_id, locked in secrets.items():
            if locked is not None:
                tx.put(self.secrets, job_id, locked)
            elif job_id in self.secrets:
                tx.drop(self.secrets, job_id)

    async def jobs_by_id(self, _: object, ids: Sequence[str]) -> dict[str, tuple[Job, list[Item]]]:
        return {job.order.id: (job, self.items_of(job)) for job in self.all_jobs() if job.order.id in ids}

    def all_jobs(self) -> list[Job]:
        return [msgspec.json.decode(job, type=Job) for job in self.jobs.values()]

    def lease(self, lease: bytes) -> Lease:
        return msgspec.json.decode(self.leases[lease], type=Lease)

    def all_leases(self) -> list[Lease]:
        return [msgspec.json.decode(lease, type=Lease) for lease in self.leases.values()]

    def items_of(self, job: Job) -> list[Item]:
        indexes = range(job.order.item_count)
        return [msgspec.json.decode(self.items[job.order.id, index], type=Item) for index in indexes]


class Log:
    def __init__(self) -> None:
        self.batches: list[LoggedBatch] = []

    async def after(self, _: object, pos: int, limit: int) -> list[LoggedBatch]:
        return self.batches[pos : pos + limit]

    async def lock(self, _: object) -> None:
        return


class Enrolled:
    def __init__(self, nodes: Sequence[Node], lines: int) -> None:
        self.lines = lines
        self.rows = [NodeRow(node.id, node.account, "", START, "") for node in nodes]
        self.bans: frozenset[bytes] = frozenset()
        self.known: frozenset[bytes] = frozenset()

    async def banned(self, _: object) -> frozenset[bytes]:
        return self.bans

    async def vouched(self, _: object) -> frozenset[bytes]:
        return self.known

    async def nodes(self, _: object, only: Sequence[bytes] | None = None) -> list[NodeRow]:
        return [row for row in self.rows if only is None or row.node in only]

    async def networks(self, _: object, _only: Sequence[bytes] | None = None) -> dict[bytes, str]:
        return {row.node: f"192.0.{index % self.lines}.0/24" for index, row in enumerate(self.rows)}


class Sent:
    """What the market said."""

    def __init__(self) -> None:
        self.proposals: list[Lease] = []
        self.stops: list[tuple[bytes, bytes]] = []
        self.happened: list[Happening] = []

    async def send(self, changes: Changes, jobs: Mapping[str, Entry]) -> None:
        assert {lease.job for lease in changes.proposals} <= set(jobs)
        self.proposals += changes.proposals
        self.stops += changes.stops
        happened = changes.happened.take()
        self.happened += happened.shown if happened else []


class Node:
    """A node's end of the wire. It numbers its records and knows nothing of its leases: the test does."""

    def __init__(self, number: int) -> None:
        self.id = hashlib.sha256(b"node%d" % number).digest()
        self.account = hashlib.sha256(b"owner%d" % (number // 2)).digest()[:20]
        self.boot = 1
        self.seq = 0
        self.offers = 0
        self.alive = True


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
        self.starting = starting
        self.window_ms = WINDOW_MS
        self.nodes = [Node(number) for number in range(nodes)]
        self.buyers = [buyer(number) for number in range(buyers)]
        self.db, self.store, self.log, self.sent = Db(), Store(), Log(), Sent()
        self.registry = Enrolled(self.nodes, lines)
        self.checks, self.decisions = MemoryCheckStore(), MemoryDecisionStore()
        self.ledger = MemoryLedger()
        self.granted: Counter[bytes] = Counter()
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
            fee=self.fee,
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
            cashier=Cashier(cast("Any", self.ledger)),
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
        self._check_sold_once(set(self.store.leases) - known)
        return True

    def settle(self, rounds_max: int = 50) -> None:
        """Rounds until nothing waits."""
        for _ in range(rounds_max):
            self.round()
            if not self.rounds._more_to_do():
                return
        raise AssertionError("the rounds never come to rest")

    # What must hold

    def check(self) -> None:
        self.leases = self.store.all_leases()
        self._check_money()
        self._check_decisions()
        self._check_meters()
        self._check_capacity()
        self._check_leases()
        for job in self.store.all_jobs():
            self._check_job(job, self.store.items_of(job))
        self._check_stored()

    def _check_money(self) -> None:
        check = finish(self.ledger.check(MemoryTransaction()))
        assert check.ok, check.faults
        balances = {id_: account.balance for id_, account in self.ledger.accounts.items()}
        for credit in Credit:
            clearing = balances[account_id(Purpose.CLEARING, credit)]
            assert clearing.debits_posted == clearing.credits_posted
        held: Counter[tuple[bytes, int]] = Counter()
        unbacked: Counter[tuple[bytes, int]] = Counter()
        for lease in self.leases:
            for credit_class, amount in lease.unbacked:
                assert lease.state is not LeaseState.ENDED
                unbacked[lease.payee, credit_class] += amount
            for credit_class, amount in lease.held:
                assert lease.state is not LeaseState.ENDED
                held[lease.payer, credit_class] += amount
        owed: Counter[bytes] = Counter()
        earned: Counter[bytes] = Counter()
        for lease in self.leases:
            owed[lease.payer] += lease.owed_microusd + lease.unbacked_microusd - lease.refunded_microusd
            earned[lease.payee] += lease.owed_microusd
        for owner in self.buyers:
            wallets = {credit: balances[account_id(Purpose.WALLET, credit, owner)] for credit in Credit}
            left = sum(wallet.credits_posted - wallet.debits_posted for wallet in wallets.values())
            assert self.granted[owner] - left == owed[owner]
            for credit, wallet in wallets.items():
                assert wallet.debits_pending == held[owner, credit]
                assert wallet.credits_posted - wallet.debits_posted - wallet.debits_pending >= 0
        fees = [balances[account_id(Purpose.FEE, credit)] for credit in Credit]
        assert sum(fee.debits_posted for fee in fees) - self._returned() == owed[NETWORK]
        assert all(fee.debits_pending == held[NETWORK, credit] for fee, credit in zip(fees, Credit, strict=True))
        network = sum(fee.credits_posted for fee in fees) - self.fees_funded - self._returned()
        reserves = [balances[account_id(Purpose.RESERVE, credit)] for credit in Credit]
        network += sum(one.credits_posted - one.debits_posted for one in reserves) - self.reserve_funded
        self._check_reserve()
        mine = {(owner, credit): account_id(Purpose.EARNED, credit, owner) for owner in earned for credit in Credit}
        provided = sum(balances[id_].credits_posted for id_ in mine.values() if id_ in balances)
        for owner, credit in mine:
            kept = balances.get(account_id(Purpose.UNBACKED, credit, owner), Balance())
            assert kept.credits_posted - kept.debits_posted == unbacked[owner, credit]
        assert network + provided + unbacked.total() == sum(owed.values())

    def _check_decisions(self) -> None:
        """What the network will sign says of each lease what the ledger moved for it, and of each node what it is."""
        said: Counter[tuple[bytes, int, str]] = Counter()
        finals: Counter[bytes] = Counter()
        shown: dict[bytes, Standing] = {}
        for at, body in self.decisions.waiting.values():
            if isinstance(body, NodeShown):
                shown[body.node] = learned(shown.get(body.node, Standing()), at, body.what, body.code)
                continue
            if isinstance(body, SeedDrawn | RollAnswered):
                continue
            assert isinstance(body, LeaseSettled)
            assert body.lease not in finals, "nothing comes after the final one"
            finals[body.lease] += body.final
            finals += Counter()
            for moved in body.moved:
                for part in PARTS.values():
                    said[body.lease, moved.credit, part] += getattr(moved, part)
        leases = {lease.id: lease for lease in self.leases}
        lies: Counter[tuple[bytes, int, str]] = Counter()
        for entry in self.ledger.log.values():
            if entry.ref in leases and entry.code and Kind(entry.code) in PARTS:
                lies[entry.ref, entry.ledger, PARTS[Kind(entry.code)]] += entry.amount
        assert +said == +lies
        assert set(finals) == {lease.id for lease in self.leases if lease.state is LeaseState.ENDED}
        assert shown == {node: msgspec.json.decode(doc, type=Standing) for node, doc in self.store.standings.items()}

    def _returned(self) -> int:
        """What the network got back of what it had paid for work that was of no use."""
        network = {lease.id for lease in self.leases if lease.payer == NETWORK}
        return sum(one.amount for one in self.ledger.log.values() if one.code == Kind.RETURNED and one.ref in network)

    def _check_reserve(self) -> None:
        """It pays on an account, in each credit class, no more than the part of fees that counts for the account."""
        fees = self._fees_that_count()
        most: Counter[TallyKey] = Counter()
        given: Counter[int] = Counter()
        paid: Counter[bytes] = Counter()
        by_id = {lease.id: lease for lease in self.leases}
        for entry in self.ledger.log.values():
            lease = by_id.get(entry.ref or b"")
            if lease is not None and entry.code in {Kind.REFUND, Kind.LOST}:
                inconclusive = lease.reason == INCONCLUSIVE
                for account in {lease.payee, lease.payer} if inconclusive else {lease.payee}:
                    most[account, entry.ledger] += entry.amount
                given[entry.ledger] += entry.amount
                paid[entry.ref] += entry.amount
        on_accounts = self._check_checks()
        for key, tally in self.store.tallies.items():
            assert tally.fees == fees[key]
            assert on_accounts[key] <= tally.covered <= min(tally.fees, most[key] + on_accounts[key])
        for credit in Credit:
            covered = sum(tally.covered for (_, one), tally in self.store.tallies.items() if one == credit)
            assert covered == given[credit] + sum(sum_ for (_, one), sum_ in on_accounts.items() if one == credit)
        for lease in self.leases:
            assert paid[lease.id] == lease.refunded_microusd + lease.made_good_microusd
            assert lease.refunded_microusd <= lease.owed_microusd
            assert not lease.made_good_microusd or lease.caused_by in {"owner", "nobody"}
            assert not lease.refunded_microusd or lease.reason == INCONCLUSIVE

    def _fees_that_count(self) -> Counter[TallyKey]:
        """Half of each fee for who paid it, half for whose use paid it."""
        fees: Counter[TallyKey] = Counter()
        for lease in self.leases:
            windows = range(lease.window + 2) if lease.payer != NETWORK else ()
            for window, credit in product(windows, Credit):
                fee, reserve = (self._passed_on(kind, lease, window, credit) for kind in (Kind.FEE, Kind.RESERVE))
                fee = fee if credit is Credit.GRANTED else self.fee.returnable(fee)
                for account, part in zip((lease.payer, lease.payee), halves(fee, reserve), strict=True):
                    fees[account, int(credit)] += part
        return fees

    def _passed_on(self, kind: Kind, lease: Lease, window: int, credit: Credit) -> int:
        entry = self.ledger._transfers.get(_window_id(kind.name, lease.id, window, credit))
        return entry.amount if entry is not None else 0

    def _check_checks(self) -> Counter[TallyKey]:
        """What the network ordered is charged to an account or the starting credit; what it was, by account."""
        on_accounts: Counter[TallyKey] = Counter()
        started: Counter[StartKey] = Counter()
        spent = self._spent_by_network()
        for lease in self.leases:
            if lease.payer != NETWORK:
                assert (lease.charged_to, lease.covered_ms) == (b"", None)
            elif lease.charged_to == lease.node:
                assert {credit for credit, amount in spent[lease.id].items() if amount} <= {Credit.GRANTED}
                started[lease.node, lease.proposed_at // DAY_MS] += spent[lease.id].total()
            elif lease.charged_to:
                job = msgspec.json.decode(self.store.jobs[lease.job], type=Job)
                assert lease.charged_to in ({job.replay.account, job.replay.due_to} if job.replay else {job.account})
                for credit, amount in spent[lease.id].items():
                    on_accounts[lease.charged_to, credit] += amount
        assert {key: amount for key, amount in self.store.starting.items() if amount} == dict(+started)
        by_node, by_day = Counter[bytes](), Counter[int]()
        for (node, day), amount in started.items():
            by_node[node] += amount
            by_day[day] += amount
        assert all(amount <= self.starting.a_node for amount in by_node.values())
        assert all(amount <= self.starting.a_day for amount in by_day.values())
        assert started.total() <= self.starting.total
        return on_accounts

    def _spent_by_network(self) -> dict[bytes, Counter[int]]:
        """What left the fee's purse for each lease that the network pays, or is held for it, by credit class."""
        spent: dict[bytes, Counter[int]] = defaultdict(Counter)
        for lease in self.leases:
            spent[lease.id].update(dict(lease.held))
        signs = {Kind.INCOME: 1, Kind.RESERVE: 1, Kind.KEPT: 1, Kind.BACKED: -1}
        for entry in self.ledger.log.values():
            if entry.ref in spent and entry.code in signs:
                spent[entry.ref][entry.ledger] += signs[Kind(entry.code)] * entry.amount
        return spent

    def _check_meters(self) -> None:
        """What was charged is the price of what was used, floored once."""
        price_ms: Counter[MeterKey] = Counter()
        owed: Counter[MeterKey] = Counter()
        for lease in self.leases:
            key = (lease.payer, lease.payee, lease.price_version)
            price_ms[key] += lease.price_microusd_per_hour * lease.charged_ms
            owed[key] += lease.owed_microusd
        for key, sum_ in price_ms.items():
            over = [shown for (one, _), shown in self.store.meters_over.items() if one == key]
            shown = [*over, self.store.meters.get(key, 0)]
            assert sum(shown) == sum_
            assert owed[key] == sum(cumulative_charge(each, self.fee).total for each in shown)
            assert owed[key] == sum(each // HOUR_MS for each in shown)

    def _check_capacity(self) -> None:
        open_: dict[bytes, list[Lease]] = defaultdict(list)
        for lease in self.brain.leases.values():
            assert lease.state is not LeaseState.ENDED
            if lease.holds_capacity:
                open_[lease.node].append(lease)
        for node, slot in self.brain.floor.slots.items():
            assert set(slot.leases) == {lease.id for lease in open_[node]}
            free = slot.offer.made.total
            for lease in open_[node]:
                free = free.minus(lease.resources)
            assert slot.free == free

    def _check_sold_once(self, new: set[bytes]) -> None:
        """Whatever a node held before: a new lease only goes where it fits, to nobody banned, to no cancelled job."""
        cancelled = {job_id for job_id, answer in self.cancels if answer.given and answer.error is None}
        for lease_id in new & set(self.brain.leases):
            lease = self.brain.leases[lease_id]
            assert lease.job not in cancelled
            assert not {lease.node, lease.payee} & self.brain.banned
            job = self.brain.jobs[lease.job].job
            trust = self.brain.trust_of(lease.node, self.now, job.account)
            assert not job.needs.secrets or trust in {PROVEN, VOUCHED, OWN}
            offer = self.brain.floor.slots[lease.node].offer
            asked = offer.spot if lease.spot else offer.made.terms
            assert asked is not None
            assert lease.price_microusd_per_hour == asked.price_microusd_per_hour(lease.resources)
            assert lease.spot == self.brain.jobs[lease.job].job.order.spot
            assert not lease.holds_capacity or self.brain.floor.slots[lease.node].free.holds(NOTHING)

    def _check_leases(self) -> None:
        for lease in self.leases:
            assert lease.used_ms <= lease.time_limit_ms
            assert lease.owed_microusd >= 0
            if not lease.until_stopped and lease.state is not LeaseState.ENDED:
                assert lease.charged_ms <= lease.saved_ms  # nobody pays for what is not of use yet
            if lease.state is LeaseState.ENDED:
                assert lease.ended_at is not None
                assert lease.used_ms <= lease.ended_at - lease.proposed_at
                assert lease.caused_by in {"buyer", "provider", "owner", "nobody", "network"}
                assert lease.reason
            else:
                assert bool(lease.caused_by) == (lease.state is LeaseState.REPORTED)
                assert lease.used_ms + lease.claim_ms <= self.now - lease.proposed_at
            if lease.started_at is not None:
                assert (lease.node, lease.id, LeaseAccepted.kind) in self.said
            if lease.used_ms or lease.claim_ms or lease.ok:
                kinds = (UsageReceipt.kind, LeaseCheckpoint.kind)
                assert any((lease.node, lease.id, kind) in self.said for kind in kinds)
            if lease.saved_ms:
                assert (lease.node, lease.id, LeaseCheckpoint.kind) in self.said
                assert lease.saved_ms <= (lease.ended_at or self.now) - lease.proposed_at
            assert lease.spot or PREEMPTED not in {lease.reason, lease.stop_reason}
            if lease.id in self.store.evidence:
                assert (lease.reason, lease.caused_by) == ("result.wrong", "provider")

    def _check_job(self, job: Job, items: list[Item]) -> None:
        mine = [lease for lease in self.leases if lease.job == job.order.id]
        for item in items:
            self._check_item(job, item, [lease for lease in mine if lease.item == item.index])
        assert (job.order.id in self.store.secrets) == (bool(job.needs.secrets) and job.state is JobState.RUNNING)
        finals = {item.state for item in items}
        if finals <= FINAL:
            worst = next(s for s in (ItemState.CANCELLED, ItemState.FAILED, ItemState.DONE) if s in finals)
            assert (job.state.value, job.ended_at is None) == (worst.value, False)
        else:
            assert job.state is JobState.RUNNING
        if job.order.budget_microusd is not None:
            bought = [lease for lease in mine if lease.payer != NETWORK]
            reserved = sum(amount for lease in bought for _, amount in (*lease.held, *lease.unbacked))
            owed = sum(lease.owed_microusd - lease.refunded_microusd for lease in bought)
            assert owed + reserved <= job.order.budget_microusd

    def _check_item(self, job: Job, item: Item, mine: list[Lease]) -> None:
        working = [lease for lease in mine if lease.holds_capacity]
        reported = [lease for lease in mine if lease.state is LeaseState.REPORTED]
        assert set(item.leases) == {lease.id for lease in working}
        if item.state in FINAL:
            assert not working
            assert not reported
        else:
            assert {vote.lease for vote in item.votes} == {lease.id for lease in reported}
            owners = [lease.payee for lease in working + reported]
            assert len(owners) == len(set(owners))
            lines = [self.brain.floor.networks[lease.node] for lease in working + reported]
            assert len(lines) == len(set(lines))
            assert len(owners) <= item.wanted or item.wanted == 0  # none is wanted of what was cancelled
            states = {ItemState.CHECKING} if reported else {ItemState.PLACED, ItemState.RUNNING}
            assert item.state in (states if owners else {ItemState.WAITING})
        assert item.state is not ItemState.DONE or item.result is not None or job.order.until_stopped
        assert item.attempts == len(mine)
        paid = [one for one in mine if one.state is LeaseState.ENDED and one.payer != NETWORK]
        assert item.owed_microusd == sum(one.owed_microusd - one.refunded_microusd for one in paid)
        assert item.used_ms == sum(one.used_ms for one in paid)
        assert item.reason or item.state not in {ItemState.FAILED, ItemState.CANCELLED}
        assert item.failures <= job.order.retries + 1
        lost = [
            one
            for one in mine
            if (one.caused_by == "provider" and one.started_at is not None) or one.reason == NETWORK_FAILED
        ]
        shunned = sum(item.shunned.count(node) for node in {one.node for one in mine})
        losses = sum(1 for one in lost if not one.ok or one.reason == "result.wrong")
        assert shunned <= losses
        assert shunned == losses or any(one.saved_ms or one.window for one in mine)
        assert not item.checkpoint or job.needs.checkpoints
        assert not item.checkpoint or any(one.saved_ms for one in mine)

    def _check_stored(self) -> None:
        """A process that starts now would have the same in mind."""
        state = finish(self.store.load(None))
        fresh = Brain(self.fee, self.brain.judging.seed)
        for offer in self.store.all_offers():
            fresh.floor.offer(offer, self.now)
        fresh.restore(state.jobs, state.leases, state.secrets)
        brain = self.brain
        assert fresh.leases == brain.leases
        assert state.meters == brain.meters
        assert state.tallies == brain.tallies
        assert state.starting == brain.starting.spent
        assert state.standings == brain.judging.standings
        assert {node: (s.free, s.offer) for node, s in fresh.floor.slots.items()} == {
            node: (s.free, s.offer) for node, s in brain.floor.slots.items()
        }
        assert {id_: _essence(entry) for id_, entry in fresh.jobs.items()} == {
            id_: _essence(entry) for id_, entry in brain.jobs.items()
        }
        assert state.cursor == self.rounds._cursor


def _essence(entry: Entry) -> tuple[object, ...]:
    return (
        entry.job,
        entry.locked,
        entry.items,
        set(entry.waiting),
        entry.spent_microusd,
        entry.unfinished,
        entry.reserved,
    )


def failed(answer: Answer) -> str:
    """Code of the error that an input got; empty when it was taken."""
    assert answer.given
    return answer.error.code if isinstance(answer.error, FallowError) else ""
