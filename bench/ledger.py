"""Transfers a second through the ledger on PostgreSQL, every check and synchronous_commit on.

Work: batches of 8,190 on 10,000 accounts that may not owe more than they have, and one hot fee account. A batch holds
3,690 single-phase transfers (every third pays the hot account) and 2,250 linked pairs of "post what the last batch
reserved for this lease, reserve its next window with a timeout", a tenth of them posting only a part. Accounts are
drawn evenly, which is the worst case: a batch locks about 8,000 of them. Ids grow with time, as `ordered_id` makes
them and TigerBeetle recommends; the rate with ids that are random all over is measured too and printed.

Baseline, in the same run and on the same server: the straightforward ledger, one transaction per transfer with an
insert and two conditional updates in plain SQL, over as many connections as do best here.

    python bench/ledger.py [--batches 40] [--seconds 5]

FALLOW_BENCH_DSN names a PostgreSQL whose user may create databases; without it one is started in a temporary folder.
The benchmark works in a database of its own, which it drops at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from fallow.adapters.engines.postgres import EmbeddedPostgres
from fallow.adapters.postgres.database import PostgresDatabase, open_database
from fallow.adapters.postgres.ledger import PostgresLedger
from fallow.adapters.postgres.migrations import builtin, migrate
from fallow.domain.ledger import (
    BATCH_MAX,
    DEBITS_MUST_NOT_EXCEED_CREDITS,
    Transfer,
    account,
    ordered_id,
    post_pending,
    transfer,
)

GOAL = 40_000
ACCOUNTS = 10_000
PAIRS = 2_250
SINGLES = BATCH_MAX - 2 * PAIRS
NOW_MS = 1_700_000_000_000
BASELINE_CONNECTIONS = (1, 4, 16)

SERVER = {"shared_buffers": "512MB", "max_wal_size": "4GB", "min_wal_size": "1GB"}
"""On top of the engine's settings, which are sized for a laptop; durability stays as it is: on."""

BASELINE_SCHEMA = """
CREATE TABLE account (id bytea PRIMARY KEY, debits numeric(78) NOT NULL DEFAULT 0,
    credits numeric(78) NOT NULL DEFAULT 0, CHECK (debits <= credits));
CREATE TABLE transfer (id bytea PRIMARY KEY, debit bytea NOT NULL, credit bytea NOT NULL,
    amount numeric(78) NOT NULL, created_ms bigint NOT NULL);
CREATE INDEX ON transfer (debit);
CREATE INDEX ON transfer (credit);
"""


class Workload:
    """Batches from a seed; each refers to the reservations of the one before, and is 200 ms younger."""

    def __init__(self, seed: int, *, ordered: bool = True) -> None:
        self._ordered = ordered
        self._now_ms = NOW_MS
        self._random = random.Random(seed)  # noqa: S311 - not for secrets
        self.bank, self.fees = self._id(), self._id()
        self.customers = [self._id() for _ in range(ACCOUNTS)]
        self._reserved: list[Transfer] = []

    def accounts(self) -> list[tuple[bytes, int]]:
        """Every account with its flags; only the bank may owe."""
        limited = [*self.customers, self.fees]
        return [(self.bank, 0), *((id_, DEBITS_MUST_NOT_EXCEED_CREDITS) for id_ in limited)]

    def funding(self) -> list[Transfer]:
        """Money for every customer, enough for any run."""
        return [transfer(self._id(), self.bank, id_, 10**12, 1, 1) for id_ in self.customers]

    def batch(self) -> list[Transfer]:
        """The next batch."""
        self._now_ms += 200
        before, self._reserved = self._reserved, []
        batch: list[Transfer] = []
        for place in range(PAIRS):
            if before:
                partly = before[place].amount or 0
                amount = partly // 2 if place % 10 == 0 else None
                batch.append(post_pending(self._id(), before[place].id, amount, linked=True))
            debit, credit = self._two()
            reserve = transfer(self._id(), debit, credit, self._amount(), 1, 2, pending=True, timeout_s=3600)
            self._reserved.append(reserve)
            batch.append(reserve)
        for place in range(SINGLES):
            debit, credit = self._two()
            batch.append(transfer(self._id(), debit, credit if place % 3 else self.fees, self._amount(), 1, 1))
        return batch

    def _id(self) -> bytes:
        name = self._random.randbytes(16)
        return ordered_id(self._now_ms, name) if self._ordered else name

    def _two(self) -> list[bytes]:
        return self._random.sample(self.customers, 2)

    def _amount(self) -> int:
        return self._random.randrange(1, 10**7)


@asynccontextmanager
async def postgres_dsn() -> AsyncIterator[str]:
    """A server to measure on: the one named by FALLOW_BENCH_DSN, else a fresh one sized for a server."""
    if named := os.environ.get("FALLOW_BENCH_DSN"):
        yield named
        return
    with tempfile.TemporaryDirectory(prefix="fallow-bench-") as folder:
        os.chmod(folder, 0o755)  # noqa: PTH101, S103 - the engine may run as another user
        async with EmbeddedPostgres(Path(folder), settings=SERVER) as engine:
            yield engine.dsn("postgres")


@asynccontextmanager
async def fresh_database(dsn: str) -> AsyncIterator[str]:
    """An empty database on this server, dropped at the end."""
    name = f"fallow_bench_{os.getpid()}"
    server = await asyncpg.connect(dsn)
    try:
        await server.execute(f"CREATE DATABASE {name}")
        try:
            yield urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))
        finally:
            await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await server.close()


async def measure_ledger(dsn: str, batches: int, *, ordered: bool) -> tuple[float, bool]:
    """Transfers a second of the ledger, and whether everything was accepted and adds up afterwards."""
    ledger, work = PostgresLedger(), Workload(1, ordered=ordered)
    async with open_database(dsn) as database:
        await migrate(database, builtin("ledger"))
        async with database.transaction() as tx:
            [setting] = await tx.fetch("SHOW synchronous_commit")
            print(f"synchronous_commit = {setting['synchronous_commit']}")
            await ledger.open_accounts(tx, [account(id_, 1, 1, flags) for id_, flags in work.accounts()])
        funding = work.funding()
        for start in range(0, len(funding), BATCH_MAX):
            await post(database, ledger, funding[start : start + BATCH_MAX])
        accepted = await post(database, ledger, work.batch())

        # Spares searching the modules for garbage again and again; a service has to do it too to be as fast.
        gc.collect()
        gc.freeze()
        times: list[float] = []
        door: list[float] = []
        batch: list[Transfer] = []
        for _ in range(batches):
            begun = time.perf_counter()
            batch = work.batch()
            built = time.perf_counter()
            accepted &= await post(database, ledger, batch)
            times.append(time.perf_counter() - built)
            door.append(built - begun)
        rate = batches * BATCH_MAX / sum(times)
        print(
            f"{'growing' if ordered else 'random'} ids: {batches * BATCH_MAX} transfers in {sum(times):.2f} s: "
            f"{rate:.0f}/s; a batch takes {statistics.median(times) * 1000:.0f} ms (median), "
            f"{max(times) * 1000:.0f} ms (worst); making one up and validating it beforehand "
            f"{statistics.median(door) * 1000:.0f} ms"
        )
        accepted &= await post(database, ledger, batch)  # again: changes nothing
        async with database.transaction() as tx:
            check = await ledger.check(tx)
        print(f"check of {check.movements} movements: {'holds' if check.ok else check.faults[:5]}")
    return rate, accepted and check.ok and setting["synchronous_commit"] == "on"


async def post(database: PostgresDatabase, ledger: PostgresLedger, batch: list[Transfer]) -> bool:
    """Post a batch in a transaction of its own; whether all of it was accepted."""
    async with database.transaction() as tx:
        results = await ledger.post(tx, batch, NOW_MS)
    return all(result.ok for result in results)


async def measure_baseline(dsn: str, seconds: float) -> tuple[float, int]:
    """Transfers a second of the straightforward ledger, and the number of connections that did best."""
    work = Workload(2)
    async with open_database(dsn, pool_size=max(BASELINE_CONNECTIONS)) as database:
        async with database.transaction() as tx:
            await tx.execute(BASELINE_SCHEMA)
            await tx.copy("public.account", ("id", "credits"), [(id_, 10**15) for id_, _ in work.accounts()])
        rates = {n: await baseline_rate(database, work, n, seconds) for n in BASELINE_CONNECTIONS}
    best = max(rates, key=rates.__getitem__)
    print("baseline: " + ", ".join(f"{rate:.0f}/s on {n} connections" for n, rate in rates.items()))
    return rates[best], best


async def baseline_rate(database: PostgresDatabase, work: Workload, connections: int, seconds: float) -> float:
    """Run one transfer per transaction on so many connections for a while."""
    transfers = iter([t for _ in range(20) for t in work.batch() if t.debit])
    end = time.perf_counter() + seconds

    async def worker() -> int:
        done = 0
        while time.perf_counter() < end:
            await baseline_transfer(database, next(transfers))
            done += 1
        return done

    started = time.perf_counter()
    counts = await asyncio.gather(*(worker() for _ in range(connections)))
    return sum(counts) / (time.perf_counter() - started)


async def baseline_transfer(database: PostgresDatabase, t: Transfer) -> None:
    """One transfer the straightforward way; the lower account id first, against deadlocks."""
    debit = ("UPDATE account SET debits = debits + $2 WHERE id = $1", t.debit)
    credit = ("UPDATE account SET credits = credits + $2 WHERE id = $1", t.credit)
    async with database.transaction() as tx:
        await tx.execute("INSERT INTO transfer VALUES ($1, $2, $3, $4, $5)", t.id, t.debit, t.credit, t.amount, NOW_MS)
        for query, id_ in sorted((debit, credit), key=lambda pair: pair[1]):
            await tx.execute(query, id_, t.amount)


async def main() -> int:
    """Measure both, print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each way to run the baseline")
    options = parser.parse_args()
    async with postgres_dsn() as server:
        async with fresh_database(server) as dsn:
            baseline, connections = await measure_baseline(dsn, options.seconds)
        async with fresh_database(server) as dsn:
            _, random_holds = await measure_ledger(dsn, options.batches, ordered=False)
        async with fresh_database(server) as dsn:
            rate, holds = await measure_ledger(dsn, options.batches, ordered=True)
    result = {
        "name": "ledger",
        "value": round(rate),
        "unit": "transfers/s",
        "baseline": round(baseline),
        "baseline_name": f"one transaction per transfer in plain SQL, {connections} connections",
        "ratio": round(rate / baseline, 1),
        "goal": GOAL,
        "ok": holds and random_holds and rate >= GOAL,
    }
    print(json.dumps(result))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
