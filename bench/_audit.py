"""What the database must say after jobs that went well: one reserve and one settlement each, and exact sums.

Beside the buyers' jobs the network orders some of its own, to check results with; they may still be open.
"""

from __future__ import annotations

from collections import Counter

import asyncpg
import msgspec

from fallow.adapters.postgres.database import open_database
from fallow.adapters.postgres.ledger import PostgresLedger
from fallow.domain.billing import FeePolicy, MeterKey, cumulative_charge
from fallow.domain.chart import NETWORK, Kind, Purpose
from fallow.domain.jobs import Job, JobState
from fallow.domain.leases import Lease, LeaseState
from fallow.domain.ledger import PENDING, POST_PENDING
from tests.network import FUNDS


async def audit(dsn: str, job_ids: list[str]) -> list[str]:
    """Every fault that is found. No other jobs than these may have run on the network."""
    server = await asyncpg.connect(dsn)
    try:
        return [
            *await _jobs(server, job_ids),
            *await _money(server, await _leases(server)),
            *await _ledger(dsn),
        ]
    finally:
        await server.close()


async def _jobs(server: asyncpg.Connection[asyncpg.Record], job_ids: list[str]) -> list[str]:
    jobs = [msgspec.json.decode(row["doc"], type=Job) for row in await server.fetch("SELECT doc FROM market.job")]
    states = {job.order.id: job.state for job in jobs if job.replay is None}
    faults = [f"job {job} is {states.get(job, 'missing')}" for job in job_ids if states.get(job) is not JobState.DONE]
    if len(states) != len(job_ids):
        faults.append(f"{len(states)} jobs instead of {len(job_ids)}")
    return faults


async def _leases(server: asyncpg.Connection[asyncpg.Record]) -> list[Lease]:
    return [
        msgspec.json.decode(row["doc"], type=Lease)
        for row in await server.fetch("SELECT doc FROM market.lease ORDER BY id")
    ]


async def _money(server: asyncpg.Connection[asyncpg.Record], leases: list[Lease]) -> list[str]:
    faults = [
        f"lease {lease.id.hex()} is {lease.state}"
        for lease in leases
        if lease.state is not LeaseState.ENDED and lease.payer != NETWORK
    ]
    paid = [lease for lease in leases if lease.owed_microusd]
    jobs = Counter(lease.job for lease in paid)
    faults += [f"job {job} paid for {count} leases" for job, count in jobs.items() if count != 1]
    moves = await server.fetch(
        "SELECT ref, count(*) FILTER (WHERE flags & $1 <> 0) AS reserved, count(*) FILTER (WHERE flags & $2 <> 0) AS"
        " settled, sum(amount) FILTER (WHERE flags & $2 <> 0)::text AS amount FROM ledger.transfer WHERE code = $3"
        " OR pending_id IS NOT NULL GROUP BY ref",
        PENDING, POST_PENDING, Kind.WINDOW.value,
    )  # fmt: skip
    by_lease = {row["ref"]: (row["reserved"], row["settled"], int(row["amount"] or 0)) for row in moves}
    faults += [
        f"lease {lease.id.hex()} moved {by_lease.get(lease.id)}, owes {lease.owed_microusd}"
        for lease in paid
        if by_lease.get(lease.id) != (1, 1, lease.owed_microusd)
    ]
    return faults + await _sums(server, paid)


async def _sums(server: asyncpg.Connection[asyncpg.Record], paid: list[Lease]) -> list[str]:
    """Recompute what each pair owes from what was used, and compare the totals to the micro-dollar."""
    used: dict[MeterKey, int] = {}
    for lease in paid:
        key = (lease.payer, lease.payee, lease.price_version)
        used[key] = used.get(key, 0) + lease.price_microusd_per_hour * lease.used_ms
    by_key = {key: cumulative_charge(price_ms, FeePolicy()) for key, price_ms in used.items()}
    charges = list(by_key.values())
    checks = sum(charge.total for key, charge in by_key.items() if key[0] == NETWORK)
    rows = await server.fetch(
        "SELECT code, sum(credits_posted - debits_posted)::text AS amount, sum(debits_pending)::text AS pending"
        " FROM ledger.account GROUP BY code"
    )
    lies = {Purpose(row["code"]): int(row["amount"]) for row in rows}
    wanted = {
        Purpose.EARNED: sum(charge.provider for charge in charges),
        Purpose.FEE: FUNDS[Purpose.FEE] + sum(charge.fee for charge in charges) - checks,
        Purpose.CLEARING: 0,
        Purpose.RESERVE: FUNDS[Purpose.RESERVE] + sum(charge.reserve for charge in charges),
    }
    faults = [
        f"{purpose.name}: {lies[purpose]} instead of {due}" for purpose, due in wanted.items() if lies[purpose] != due
    ]
    held = {Purpose(row["code"]): int(row["pending"]) for row in rows}
    del held[Purpose.FEE]  # the network's own checks may be open
    return faults + [f"{purpose.name}: {amount} reserved" for purpose, amount in held.items() if amount]


async def _ledger(dsn: str) -> list[str]:
    async with open_database(dsn, pool_size=1) as database, database.transaction() as tx:
        return [str(fault) for fault in (await PostgresLedger().check(tx)).faults]
