"""The market's store in memory: each struct as JSON in its row, as in PostgreSQL, so that nothing is shared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import NamedTuple, TypeVar

import msgspec

from fallow.adapters.memory.database import MemoryTransaction, memory_transaction
from fallow.domain.billing import MeterKey
from fallow.domain.checks import StartKey
from fallow.domain.chronicle import HOURS_KEPT, Hour
from fallow.domain.errors import Unavailable
from fallow.domain.jobs import Item, Job, JobState
from fallow.domain.leases import Lease, LeaseState
from fallow.domain.offers import REFUSALS_A_NODE_MAX, REFUSALS_KEPT_MS, Evidence, Offer, Refusal
from fallow.domain.reserve import Tally, TallyKey, Use
from fallow.domain.verification import Standing, Vote
from fallow.ports.database import Transaction
from fallow.ports.market_store import Cursor, MarketRows, MarketState

StructT = TypeVar("StructT", bound=msgspec.Struct)


class _JobRow(NamedTuple):
    created_at: int
    id: str
    account: bytes
    state: str
    doc: bytes


class _LeaseRow(NamedTuple):
    proposed_at: int
    id: bytes
    job: str
    state: str
    doc: bytes


class _EvidenceRow(NamedTuple):
    at: int
    lease: bytes
    node: bytes
    code: str
    votes: bytes


class _Leader(NamedTuple):
    term: int = 0
    holder: str = ""
    until: int = 0
    cursor: Cursor = Cursor(0, 0)


class MemoryMarketStore:
    """See `fallow.ports.market_store.MarketStore`."""

    def __init__(self) -> None:
        self._jobs: dict[str, _JobRow] = {}
        self._items: dict[str, dict[int, bytes]] = {}
        """By job and index."""
        self._leases: dict[bytes, _LeaseRow] = {}
        self._offers: dict[bytes, bytes] = {}
        self._meters: dict[MeterKey, int] = {}
        self._tallies: dict[TallyKey, Tally] = {}
        self._starting: dict[StartKey, int] = {}
        self._hours: dict[int, Hour] = {}
        self._standings: dict[bytes, bytes] = {}
        self._secrets: dict[str, bytes] = {}
        self._evidence: dict[bytes, _EvidenceRow] = {}
        self._leader: dict[None, _Leader] = {None: _Leader()}
        self.refusals: dict[tuple[bytes, int, int], Refusal] = {}

    async def lead(self, tx: Transaction, holder: str, now: int, until: int) -> int | None:
        """Become the one market that acts, or stay it."""
        mine, leader = memory_transaction(tx), self._leader[None]
        if leader.holder != holder and leader.until > now:
            return None
        term = leader.term + (leader.holder != holder)
        mine.put(self._leader, None, leader._replace(term=term, holder=holder, until=until))
        return term

    async def until(self, tx: Transaction) -> int:
        """When the term of the market that acts, or acted last, ends if it is not renewed."""
        memory_transaction(tx)
        return self._leader[None].until

    async def step_down(self, tx: Transaction, term: int, now: int) -> None:
        """End a term early."""
        mine, leader = memory_transaction(tx), self._leader[None]
        if leader.term == term:
            mine.put(self._leader, None, leader._replace(until=now))

    async def confirm(self, tx: Transaction, term: int) -> None:
        """Hold the term for the rest of the transaction."""
        memory_transaction(tx)
        if self._leader[None].term != term:
            raise Unavailable("market.not_leading", "Another market leads now.", "Try again in a moment.")

    async def load(self, tx: Transaction) -> MarketState:
        """Read what is open."""
        memory_transaction(tx)
        jobs = sorted(row for row in self._jobs.values() if row.state == JobState.RUNNING.value)
        leases = sorted(row for row in self._leases.values() if row.state != LeaseState.ENDED.value)
        return MarketState(
            jobs=self._with_items(jobs),
            leases=[_decode(row.doc, Lease) for row in leases],
            meters=dict(self._meters),
            tallies=dict(self._tallies),
            standings={node: _decode(doc, Standing) for node, doc in self._standings.items()},
            secrets=dict(self._secrets),
            cursor=self._leader[None].cursor,
            starting=dict(self._starting),
            hours=dict(sorted(self._hours.items())[-HOURS_KEPT:]),
        )

    async def offers(self, tx: Transaction, after: bytes, limit: int) -> list[Offer]:
        """Offers in the order of their nodes' ids."""
        memory_transaction(tx)
        found = sorted(node for node in self._offers if node > after)
        return [_decode(self._offers[node], Offer) for node in found[:limit]]

    async def save(self, tx: Transaction, rows: MarketRows) -> None:
        """Write changed rows over their older versions."""
        mine = memory_transaction(tx)
        for job in rows.jobs:
            job_row = _JobRow(job.created_at, job.order.id, job.account, job.state.value, _encode(job))
            mine.put(self._jobs, job_row.id, job_row)
        for (job_id, index), item in rows.items.items():
            self._require_job(job_id)
            mine.put(self._items.setdefault(job_id, {}), index, _encode(item))
        for lease in rows.leases:
            self._require_job(lease.job)
            lease_row = _LeaseRow(lease.proposed_at, lease.id, lease.job, lease.state.value, _encode(lease))
            mine.put(self._leases, lease.id, lease_row)
        for offer in rows.offers:
            mine.put(self._offers, offer.node, _encode(offer))
        self._keep_sums(mine, rows)
        for node, standing in rows.standings.items():
            mine.put(self._standings, node, _encode(standing))
        for job_id, locked in rows.secrets.items():
            self._require_job(job_id)
            if locked is not None:
                mine.add(self._secrets, job_id, locked)
            elif job_id in self._secrets:
                mine.drop(self._secrets, job_id)
        self._keep_verdicts(mine, rows)
        mine.put(self._leader, None, self._leader[None]._replace(cursor=rows.cursor))

    async def jobs_by_id(self, tx: Transaction, ids: Sequence[str]) -> dict[str, tuple[Job, list[Item]]]:
        """Those of these jobs that exist, with their items."""
        memory_transaction(tx)
        rows = [self._jobs[job_id] for job_id in ids if job_id in self._jobs]
        return {job.order.id: (job, items) for job, items in self._with_items(rows)}

    async def owner(self, tx: Transaction, job_id: str) -> bytes | None:
        """Account that a job belongs to."""
        memory_transaction(tx)
        return self._jobs[job_id].account if job_id in self._jobs else None

    async def items(self, tx: Transaction, job_id: str, after: int, limit: int) -> list[Item]:
        """Items of a job with an index above `after`, in order."""
        memory_transaction(tx)
        found = [(index, doc) for index, doc in sorted(self._items.get(job_id, {}).items()) if index > after]
        return [_decode(doc, Item) for _, doc in found[:limit]]

    async def jobs(self, tx: Transaction, account: bytes, after: str, limit: int) -> list[tuple[Job, list[Item]]]:
        """Jobs of an account, the latest first."""
        memory_transaction(tx)
        if after and after not in self._jobs:
            return []
        rows = sorted((row for row in self._jobs.values() if row.account == account), reverse=True)
        if after:
            rows = [row for row in rows if row[:2] < self._jobs[after][:2]]
        return self._with_items(rows[:limit])

    async def job(self, tx: Transaction, job_id: str) -> Job | None:
        """A job without its items."""
        memory_transaction(tx)
        row = self._jobs.get(job_id)
        return msgspec.json.decode(row.doc, type=Job) if row is not None else None

    async def kept_jobs(
        self, tx: Transaction, ended_after: int, also: Sequence[str], after: str, limit: int
    ) -> list[str]:
        """Ids of jobs whose blobs are kept."""
        memory_transaction(tx)
        proving = {self._leases[lease].job for lease in self._evidence}
        jobs = (msgspec.json.decode(row.doc, type=Job) for row in self._jobs.values() if row.id > after)
        kept = (
            job.order.id
            for job in jobs
            if job.ended_at is None or job.ended_at > ended_after or job.order.id in {*also, *proving}
        )
        return sorted(kept)[:limit]

    async def evidence(self, tx: Transaction, limit: int, after: bytes = b"") -> list[Evidence]:
        """Why nodes were found wrong, the latest first; those behind that of the lease `after`, if any is named."""
        memory_transaction(tx)
        if not after:
            return _evidence(self._evidence.values(), limit)
        last = self._evidence.get(after)
        behind = [row for row in self._evidence.values() if last is not None and _latest(row) > _latest(last)]
        return _evidence(behind, limit)

    async def evidence_of(self, tx: Transaction, job_id: str, limit: int) -> list[Evidence]:
        """Do the same for the leases of one job."""
        memory_transaction(tx)
        leases = {lease for lease, row in self._leases.items() if row.job == job_id}
        return _evidence((row for row in self._evidence.values() if row.lease in leases), limit)

    async def refusals_of(self, tx: Transaction, node: bytes, limit: int) -> list[Refusal]:
        """The latest refusals of a node's records."""
        memory_transaction(tx)
        mine = (refusal for _, refusal in sorted(self.refusals.items(), reverse=True) if refusal.node == node)
        return list(islice(mine, limit))

    async def leases(self, tx: Transaction, job_id: str, skip: int, limit: int) -> list[Lease]:
        """Leases of a job, oldest first, without the first `skip`."""
        memory_transaction(tx)
        rows = sorted(row for row in self._leases.values() if row.job == job_id)
        return [_decode(row.doc, Lease) for row in rows[skip : skip + limit]]

    async def reserve_uses(self, tx: Transaction, limit: int) -> list[Use]:
        """What the reserve paid by provider and reason, the largest sums first."""
        memory_transaction(tx)
        sums: dict[tuple[bytes, str], Use] = {}
        for row in self._leases.values():
            lease = _decode(row.doc, Lease)
            if lease.refunded_microusd or lease.made_good_microusd:
                key = (lease.payee, lease.reason)
                _, _, leases, refunded, made_good = sums.get(key, Use(*key, 0, 0, 0))
                given = refunded + lease.refunded_microusd, made_good + lease.made_good_microusd
                sums[key] = Use(*key, leases + 1, *given)
        order = sorted(sums.values(), key=lambda use: (-use.refunded - use.made_good, use.account, use.reason))
        return order[:limit]

    def _keep_sums(self, tx: MemoryTransaction, rows: MarketRows) -> None:
        for meter, price_ms in rows.meters.items():
            tx.put(self._meters, meter, price_ms)
        for meter in rows.meters_over:
            tx.drop(self._meters, meter)
        for key, tally in rows.tallies.items():
            tx.put(self._tallies, key, tally)
        for start, spent in rows.starting.items():
            tx.put(self._starting, start, spent)
        for at, hour in rows.hours.items():
            tx.put(self._hours, at, hour)

    def _keep_verdicts(self, tx: MemoryTransaction, rows: MarketRows) -> None:
        for refusal in rows.refusals:
            key = (refusal.node, refusal.boot, refusal.seq)
            if key not in self.refusals:
                tx.put(self.refusals, key, refusal)
        self._forget_refusals(tx, rows.refusals)
        for found in rows.evidence:
            if found.lease not in self._evidence:
                votes = msgspec.json.encode(found.votes)
                tx.put(self._evidence, found.lease, _EvidenceRow(found.at, found.lease, found.node, found.code, votes))

    def _forget_refusals(self, tx: MemoryTransaction, fresh: Sequence[Refusal]) -> None:
        oldest = max((refusal.at for refusal in fresh), default=0) - REFUSALS_KEPT_MS
        old = [key for key, refusal in self.refusals.items() if refusal.at < oldest]
        for node in {refusal.node for refusal in fresh}:
            mine = sorted((key for key in self.refusals if key[0] == node), reverse=True)
            old += mine[REFUSALS_A_NODE_MAX:]
        for key in set(old):
            tx.drop(self.refusals, key)

    def _with_items(self, rows: Iterable[_JobRow]) -> list[tuple[Job, list[Item]]]:
        return [
            (_decode(row.doc, Job), [_decode(doc, Item) for _, doc in sorted(self._items.get(row.id, {}).items())])
            for row in rows
        ]

    def _require_job(self, job_id: str) -> None:
        if job_id not in self._jobs:
            raise LookupError(f"there is no job {job_id}")


def _encode(value: msgspec.Struct) -> bytes:
    return msgspec.json.encode(value)


def _evidence(rows: Iterable[_EvidenceRow], limit: int) -> list[Evidence]:
    return [
        Evidence(row.lease, row.node, row.at, row.code, msgspec.json.decode(row.votes, type=tuple[Vote, ...]))
        for row in sorted(rows, key=_latest)[:limit]
    ]


def _latest(row: _EvidenceRow) -> tuple[int, bytes]:
    return -row.at, row.lease


def _decode(doc: bytes, to: type[StructT]) -> StructT:
    return msgspec.json.decode(doc, type=to)
