"""Signed records a second: accepted, checked, promised and durably archived, in batches of 256.

Work: usage receipts of 200 nodes, signed beforehand. Two copies of the production ingest, each in a process of its own
as an operator would run them, check every batch (form, order, root, signature), write its exact bytes to one PostgreSQL
with synchronous_commit on, and seal a promise for it. Then the production closing role ends the epoch, writes and syncs
its files, and signs the statement. The rate is that of both together. The bus is in memory: its own cost is measured by
others (bench/dispatch.py).

Baseline, in the same run: what the signatures alone cost (Ed25519 through libsodium, one a batch, as many processes).
It is a bound, not a rival: ingest also reads, hashes, writes and answers. Printed besides: how fast a stranger verifies
the finished archive, on one processor.

    python bench/ingest.py [--batches 4000] [--ingests 2]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import sys
import tempfile
import time
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import NamedTuple

import psutil
import uvloop
from nacl.signing import SigningKey

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.ledger import fresh_database, postgres_dsn
from fallow.adapters.archive import folder_archive
from fallow.adapters.clock import SystemClock
from fallow.adapters.memory.bus import MemoryHub
from fallow.adapters.postgres.database import PostgresDatabase, open_database
from fallow.adapters.postgres.epochs import PostgresEpochStore
from fallow.adapters.postgres.ingest import PostgresIngestStore
from fallow.adapters.postgres.migrations import builtin, migrate
from fallow.adapters.postgres.registry import PostgresRegistryStore
from fallow.bootstrap.garbage import short_collections
from fallow.domain.batches import BATCH_TAG, seal_batch, split_batch
from fallow.domain.calls import END_EPOCH, Deliver, Delivered, EndEpoch, ingest
from fallow.domain.encoding import encode
from fallow.domain.epochs.rules import Rules
from fallow.domain.facts import UsageReceipt
from fallow.domain.identity import verify
from fallow.domain.merkle import merkle_root
from fallow.domain.records import make_record
from fallow.domain.signing import signed_message
from fallow.ports.epochs import without_chain
from fallow.ports.ingest_store import EpochEnd
from fallow.ports.registry_store import NodeRow
from fallow.ports.rpc import call
from fallow.ports.steady import Steady
from fallow.sdk.epochs import verify_epoch
from fallow.services.epochs.service import Closing
from fallow.services.ingest.service import Ingest

NET = "bench"
GOAL = 100_000
RECORDS = 256
NODES = 200
EPOCH_MS = 1 << 45
"""Longer than all time that has passed: one epoch."""


class Took(NamedTuple):
    """Seconds that something took, and processor seconds of it, PostgreSQL's among them."""

    s: float
    used_s: float

    def said(self, records: int) -> str:
        """As people read it."""
        per_record = self.used_s / records * 1e6
        return f"{self.s:.1f} s, {records / self.s:,.0f}/s, {per_record:.1f} us of a processor for each record"


Work = list[tuple[int, list[bytes]]]
OWNER = b"o" * 20
NETWORK = SigningKey(bytes(32))


def node_key(number: int) -> SigningKey:
    """A made-up node's key."""
    return SigningKey(number.to_bytes(32))


def batches_of(number: int, count: int) -> list[bytes]:
    """What one node has signed."""
    key = node_key(number)
    made = []
    for batch in range(count):
        records = [
            make_record(
                UsageReceipt(lease=(batch << 8 | place).to_bytes(16), window=place, used_ms=3_600_000, final=False),
                net=NET, node=bytes(key.verify_key), boot=1, seq=batch * RECORDS + place, at=1_700_000_000_000,
                new_salt=lambda: bytes(32),
            )[0]
            for place in range(RECORDS)
        ]  # fmt: skip
        made.append(seal_batch(records, lambda message: key.sign(message).signature))
    return made


def sign(message: bytes) -> bytes:
    """Sign as the network."""
    return NETWORK.sign(message).signature


def ingest_on(database: PostgresDatabase, hub: MemoryHub) -> Ingest:
    """A production ingest."""
    return Ingest(
        net=NET,
        sign=sign,
        epoch_ms=EPOCH_MS,
        bus=hub.connect(),
        clock=Steady(SystemClock()),
        database=database,
        store=PostgresIngestStore(),
        registry=PostgresRegistryStore(),
    )


async def take(dsn: str, work: Work, start: Barrier) -> Took:
    """Take all of some nodes' batches, each node's one after the other."""
    hub, clock = MemoryHub(), SystemClock()
    async with open_database(dsn) as database, short_collections(clock), ingest_on(database, hub).running():
        bus = hub.connect()

        async def send(number: int, batches: list[bytes]) -> None:
            subject = ingest(bytes(node_key(number).verify_key).hex())
            for batch in batches:
                await call(bus, subject, Deliver(batch=batch, openings={}), Delivered)

        await asyncio.to_thread(start.wait)
        used_s = time.process_time()
        async with asyncio.TaskGroup() as group:
            for number, batches in work:
                group.create_task(send(number, batches))
        return Took(time.monotonic(), time.process_time() - used_s)


def run_ingest(dsn: str, numbers: list[int], count: int, start: Barrier, ended: Queue[Took]) -> None:
    """Be one ingest's process."""
    work = [(number, batches_of(number, count)) for number in numbers]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        ended.put(runner.run(take(dsn, work, start)))


def ingest_s(dsn: str, count: int, copies: int) -> Took:
    """Have so many copies of ingest take all batches."""
    context = multiprocessing.get_context("spawn")
    start, ended = context.Barrier(copies + 1), context.Queue()
    processes = [
        context.Process(target=run_ingest, args=(dsn, list(range(1 + copy, NODES + 1, copies)), count, start, ended))
        for copy in range(copies)
    ]
    for process in processes:
        process.start()
    start.wait()
    began, postgres_s = time.monotonic(), postgres_used_s()
    took: list[Took] = [ended.get() for _ in processes]
    used_s = sum(each.used_s for each in took) + postgres_used_s() - postgres_s
    for process in processes:
        process.join()
    return Took(max(each.s for each in took) - began, used_s)


def postgres_used_s() -> float:
    """Processor seconds so far of the PostgreSQL that this process has started; 0 of one that it has not."""
    times = [each.cpu_times() for each in psutil.Process().children(recursive=True) if each.name() == "postgres"]
    return sum(each.user + each.system + each.children_user + each.children_system for each in times)


async def close_s(dsn: str, folder: Path) -> tuple[Took, int]:
    """End, archive and state the epoch; returns its number, too."""
    hub = MemoryHub()
    async with open_database(dsn) as database, ingest_on(database, hub).running():
        bus = hub.connect()
        began, used_s = time.monotonic(), time.process_time() + postgres_used_s()
        (end,) = await call(bus, END_EPOCH, EndEpoch(after=None, early=True), list[EpochEnd])
        closing = Closing(
            net=NET,
            holder="bench",
            sign=sign,
            network_key=bytes(NETWORK.verify_key),
            kinds={UsageReceipt.kind},
            folder=folder / "closing",
            bus=bus,
            clock=SystemClock(),
            database=database,
            log=PostgresIngestStore(),
            store=PostgresEpochStore(),
            archive=folder_archive(folder),
            rules=Rules(),
            meterings={},
            attesting=without_chain(NET),
        )
        await closing.close_next()
        return Took(time.monotonic() - began, time.process_time() + postgres_used_s() - used_s), end.epoch


def verify_all(count: int) -> float:
    """Seconds of one process that verifies so many batch signatures, and nothing else."""
    batch = split_batch(batches_of(1, 1)[0])
    head = [NET, batch.node, batch.boot, batch.seq, len(batch.records), merkle_root(batch.records)]
    message = signed_message(BATCH_TAG, encode(head))
    began = time.monotonic()
    assert all(verify(batch.node, message, batch.sig) for _ in range(count))
    return time.monotonic() - began


def signatures_s(count: int, copies: int) -> float:
    """Seconds in which so many processes verify as many signatures as there are batches."""
    with multiprocessing.get_context("spawn").Pool(copies) as pool:
        return max(pool.map(verify_all, [count // copies] * copies))


async def prepare(dsn: str) -> None:
    """Make the tables, and enrol the nodes."""
    async with open_database(dsn) as database:
        await migrate(database, *(builtin(schema) for schema in ("registry", "ingest", "epochs")))
        registry = PostgresRegistryStore()
        async with database.transaction() as tx:
            [setting] = await tx.fetch("SHOW synchronous_commit")
            assert setting["synchronous_commit"] == "on"
            await registry.add_account(tx, OWNER, None, 1)
            for number in range(1, NODES + 1):
                await registry.add_node(tx, NodeRow(bytes(node_key(number).verify_key), OWNER, "", 1, ""))


async def main() -> int:
    """Measure, and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=4000)
    parser.add_argument("--ingests", type=int, default=2)
    options = parser.parse_args()
    count = max(1, options.batches // NODES)
    batches = count * NODES
    records = batches * RECORDS
    with tempfile.TemporaryDirectory(prefix="fallow-bench-") as name:
        folder = Path(name)
        async with postgres_dsn() as server, fresh_database(server) as dsn:
            await prepare(dsn)
            taken = await asyncio.to_thread(ingest_s, dsn, count, options.ingests)
            archived, epoch = await close_s(dsn, folder)
        began = time.monotonic()
        found = await asyncio.to_thread(verify_epoch, folder, epoch, bytes(NETWORK.verify_key))
        verified_s = time.monotonic() - began
    raw_s = await asyncio.to_thread(signatures_s, batches, options.ingests)
    rate, raw = records / (taken.s + archived.s), records / raw_s
    print(f"{records} records in {batches} batches, taken and promised: {taken.said(records)}")
    print(f"the epoch closed, {found.size / 1e6:,.0f} MB: {archived.said(records)}")
    both = Took(taken.s + archived.s, taken.used_s + archived.used_s)
    print(f"both: {both.said(records)}; on two idle processors at most {2 * records / both.used_s:,.0f}/s")
    print(f"verified by a stranger in {verified_s:.1f} s on one processor, {records / verified_s:,.0f}/s")
    print(f"signatures alone: {batches / raw_s:,.0f}/s, which is {raw:,.0f} records/s")
    result = {
        "name": "ingest",
        "value": round(rate),
        "unit": "records/s accepted, checked, promised and archived",
        "baseline": round(raw),
        "baseline_name": f"checking the signatures alone, {options.ingests} processes",
        "ratio": round(rate / raw, 4),
        "goal": GOAL,
        "ok": (found.batches, found.records, found.nodes) == (batches, records, NODES) and rate >= GOAL,
    }
    print(json.dumps(result))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
