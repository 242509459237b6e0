"""Bills: what jobs cost, what they delivered, and what the same would have cost elsewhere."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import msgspec

from fallow.domain.delegations import MUTUAL, OPERATOR_ATTESTED
from fallow.domain.errors import TooMuch
from fallow.domain.jobs import ItemState
from fallow.domain.prices import HOUR_MS, Delivered, Kind, Offer, cost_microusd, delivered_by, read_offers
from fallow.domain.views.jobs import ItemView, JobView, LeaseView
from fallow.ports.tasks import first_error
from fallow.sdk.accounts import AccountCalls
from fallow.sdk.jobs import JobCalls

JOBS_MAX = 1000
JOBS_AT_ONCE = 8


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One job on a bill. `day` is its first day (UTC); `core_s` and `gib_s` are what it delivered, rounded.

    `receipt` is `mutual` when the buyer signed for every result that came, else `operator-attested`. What came back
    from the reserve, `refunded_microusd`, is not in `owed_microusd`.
    """

    job: str
    day: str
    label: str
    state: str
    items_done: int
    owed_microusd: int
    core_s: float
    gib_s: float
    receipt: str
    refunded_microusd: int = 0


class Work(NamedTuple):
    """What a job delivered, who stands for it, and what the reserve gave back of its price (micro-US-dollars)."""

    delivered: Delivered
    receipt: str = OPERATOR_ATTESTED
    refunded: int = 0


class Sum(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs of one day or one label together."""

    name: str
    jobs: int
    owed_microusd: int
    core_s: float


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What the delivered core-time and memory-time costs elsewhere, by that one's published prices."""

    name: str
    kind: Kind
    cost_microusd: int
    as_of: str
    source: str
    note: str


class Bill(msgspec.Struct, frozen=True, kw_only=True):
    """What was paid for several jobs, replicas, restarts and failures included, and what it delivered.

    `gpu_s` are the seconds of graphics processors by model; `elsewhere` are those who sell all of what was delivered.

    With `test` it was paid in TEST credits: play money, at prices that nobody had to live on.
    """

    lines: list[Line]
    days: list[Sum]
    labels: list[Sum]
    owed_microusd: int
    core_s: float
    gib_s: float
    gpu_s: dict[str, float]
    microusd_per_core_hour: int | None
    test: bool
    elsewhere: list[Comparison]


class BillCalls(JobCalls, AccountCalls):
    """What jobs cost."""

    async def bill(self, job_id: str | None = None, *, since_ms: int = 0) -> Bill:
        """Make the bill of one job, or of all that were ordered since a time (milliseconds since 1970).

        Raises:
            TooMuch: `bill.jobs`, more than 1000 jobs.
        """
        jobs = [await self.job(job_id)] if job_id is not None else [job async for job in self._since(since_ms)]
        slots = asyncio.Semaphore(JOBS_AT_ONCE)

        async def work(job: JobView) -> Work:
            async with slots:
                return await self._work(job)

        with first_error():
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(work(job)) for job in jobs]
        return make_bill(jobs, [task.result() for task in tasks], test=(await self.balance()).pays_with_test)

    async def _since(self, since_ms: int) -> AsyncIterator[JobView]:
        count = 0
        async for job in self.all_jobs():
            if job.created_at < since_ms:
                return
            count += 1
            if count > JOBS_MAX:
                raise TooMuch("bill.jobs", f"There are more than {JOBS_MAX} jobs.", "Take a later --since.")
            yield job

    async def _work(self, job: JobView) -> Work:
        order = await self.order(job.id)
        items = [item async for item in self.all_items(job.id)]
        leases = [lease async for lease in self.all_leases(job.id)]
        refunded = sum(lease.refunded_microusd for lease in leases)
        return Work(delivered_by(order, items, leases), receipt_of(items, leases), refunded)


def receipt_of(items: Iterable[ItemView], leases: Iterable[LeaseView]) -> str:
    """Say who stands for a job's results: both sides only if the buyer signed for each that came."""
    done = {(item.index, item.node) for item in items if item.state == ItemState.DONE}
    signed = {(lease.item, lease.node) for lease in leases if lease.receipt == MUTUAL}
    return MUTUAL if done and done <= signed else OPERATOR_ATTESTED


def make_bill(jobs: Sequence[JobView], works: Sequence[Work], *, test: bool) -> Bill:
    """Add up jobs, and compare with the price file."""
    total = Delivered()
    for work in works:
        total = total.plus(work.delivered)
    lines = [_line(job, work) for job, work in zip(jobs, works, strict=True)]
    owed = sum(job.owed_microusd for job in jobs)
    return Bill(
        lines=lines,
        days=_sums(lines, [line.day for line in lines]),
        labels=_sums(lines, [line.label for line in lines]),
        owed_microusd=owed,
        core_s=_core_s(total),
        gib_s=_gib_s(total),
        gpu_s={model: round(ms / 1000, 3) for model, ms in total.gpu_ms},
        microusd_per_core_hour=_per_core_hour(owed, total),
        test=test,
        elsewhere=[_compared(offer, total) for offer in offers() if offer.sells(total)] if total != Delivered() else [],
    )


def _per_core_hour(owed_microusd: int, total: Delivered) -> int | None:
    """Price of a core and hour; none where nothing was delivered, or graphics processors were paid besides."""
    if total.gpu_ms or not total.cpu_milli_ms:
        return None
    return owed_microusd * 1000 * HOUR_MS // total.cpu_milli_ms


@cache
def offers() -> tuple[Offer, ...]:
    """Read the packaged price file."""
    decoded = tomllib.loads(files("fallow").joinpath("data", "prices.toml").read_text("utf-8"))
    for offer in decoded["offer"]:
        offer["as_of"] = offer["as_of"].isoformat()
    return tuple(read_offers(decoded))


def _line(job: JobView, work: Work) -> Line:
    return Line(
        job=job.id,
        day=datetime.fromtimestamp(job.created_at / 1000, UTC).date().isoformat(),
        label=job.label,
        state=job.state,
        items_done=job.counts.get("done", 0),
        owed_microusd=job.owed_microusd,
        refunded_microusd=work.refunded,
        core_s=_core_s(work.delivered),
        gib_s=_gib_s(work.delivered),
        receipt=work.receipt,
    )


def _sums(lines: Sequence[Line], names: Iterable[str]) -> list[Sum]:
    found: dict[str, Sum] = {}
    for line, name in zip(lines, names, strict=True):
        before = found.get(name) or Sum(name=name, jobs=0, owed_microusd=0, core_s=0.0)
        found[name] = Sum(
            name=name,
            jobs=before.jobs + 1,
            owed_microusd=before.owed_microusd + line.owed_microusd,
            core_s=round(before.core_s + line.core_s, 3),
        )
    return [found[name] for name in sorted(found)]


def _compared(offer: Offer, delivered: Delivered) -> Comparison:
    return Comparison(
        name=offer.name,
        kind=offer.kind,
        cost_microusd=cost_microusd(offer, delivered),
        as_of=offer.as_of,
        source=offer.source,
        note=offer.note,
    )


def _core_s(delivered: Delivered) -> float:
    return round(delivered.cpu_milli_ms / 1_000_000, 3)


def _gib_s(delivered: Delivered) -> float:
    return round(delivered.mib_ms / 1024 / 1000, 3)
