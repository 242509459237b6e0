"""In-memory twins of the market's stores, and of whom it speaks with."""

# ruff: noqa: D101, D102 - the twins say what they are by the protocol that they stand for

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

import msgspec

from fallow.adapters.memory.database import MemoryTransaction
from fallow.domain.billing import MeterKey
from fallow.domain.checks import StartKey
from fallow.domain.chronicle import Hour
from fallow.domain.errors import Unavailable
from fallow.domain.happenings import Happening
from fallow.domain.jobs import Item, Job, JobState
from fallow.domain.leases import Lease, LeaseState
from fallow.domain.offers import Evidence, Offer, Refusal
from fallow.domain.reserve import Tally, TallyKey
from fallow.domain.verification import Standing
from fallow.ports.ingest_store import LoggedBatch
from fallow.ports.market_store import Cursor, MarketRows, MarketState
from fallow.ports.registry_store import NodeRow
from fallow.services.market.changes import Changes
from fallow.services.market.entry import Entry

T = TypeVar("T")
START = 1_000_000
TERM = 1


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
        self.hours: dict[int, Hour] = {}
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
            hours=dict(self.hours),
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
        for at, hour in rows.hours.items():
            tx.put(self.hours, at, hour)

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
