"""Signed records a second: accepted, checked, promised and durably archived, in batches of 256.

Work: leases and their usage receipts of 200 nodes, signed beforehand. Two copies of the production ingest, each in a
process of its own as an operator would run them, check every batch (form, order, root, signature), write its exact
bytes to one PostgreSQL with synchronous_commit on, and seal a promise for it. In a third process the production closing
role writes the epoch's files meanwhile; when all is taken it ends the epoch, finishes and syncs its files and their
manifest: archived is what is there then. After that it judges the records by compute's policy and signs the statement,
whose time is printed besides. The bus is in memory: its own cost is measured by others (bench/dispatch.py).

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
import resource
import sys
import tempfile
import time
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier, Event
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
from fallow.bootstrap.closing import conclude_apart
from fallow.bootstrap.garbage import short_collections
from fallow.domain.batches import BATCH_TAG, seal_batch, split_batch
from fallow.domain.calls.epochs import END_EPOCH, EndEpoch
from fallow.domain.calls.nodes import Deliver, Delivered, ingest
from fallow.domain.encoding import encode
from fallow.domain.epochs.manifest import MANIFEST, STATEMENT, path_of
from fallow.domain.epochs.rules import Rules
from fallow.domain.facts import LeaseAccepted, UsageReceipt
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
from fallow.verticals.compute.core.metering import ComputeMetering

NET = "bench"
GOAL = 100_000
RECORDS = 256
NODES = 200
FILE_S = 0.2
"""How often the closing role looks for more to file; every two seconds it would as well."""
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


class Closed(NamedTuple):
    """When all files were in the archive, and when the statement was, and what the closing role had used until then."""

    archived: Took
    closed: Took
    epoch: int


class Times(NamedTuple):
    """How long it took from the first batch on until all were taken, until they were archived, and to close then."""

    taken_s: float
    archived: Took
    closed: Took
    epoch: int


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
        lease = batch.to_bytes(16)
        bodies = [
            LeaseAccepted(lease=lease),
            *(
                UsageReceipt(lease=lease, window=window, used_ms=3_600_000, final=False)
                for window in range(RECORDS - 1)
            ),
        ]
        records = [
            make_record(
                body, net=NET, node=bytes(key.verify_key), boot=1, seq=batch * RECORDS + place, at=1_700_000_000_000,
                new_salt=lambda: bytes(32),
            )[0]
            for place, body in enumerate(bodies)
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


def run_closing(dsn: str, folder: Path, start: Barrier, taken: Event, ended: Queue[Closed]) -> None:
    """Be the closing role's process."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        ended.put(runner.run(close(dsn, folder, start, taken)))


def measure(dsn: str, folder: Path, count: int, copies: int) -> Times:
    """Have so many copies of ingest take all batches, and the closing role archive and close their epoch."""
    context = multiprocessing.get_context("spawn")
    start, taken = context.Barrier(copies + 2), context.Event()
    took_each: Queue[Took] = context.Queue()
    closed: Queue[Closed] = context.Queue()
    ingests = [
        context.Process(
            target=run_ingest, args=(dsn, list(range(1 + copy, NODES + 1, copies)), count, start, took_each)
        )
        for copy in range(copies)
    ]
    closing = context.Process(target=run_closing, args=(dsn, folder, start, taken, closed))
    for process in (*ingests, closing):
        process.start()
    start.wait()
    began, postgres_s = time.monotonic(), postgres_used_s()
    took = [took_each.get() for _ in ingests]
    taken.set()
    ends = closed.get()
    used_s = sum(each.used_s for each in took) + ends.archived.used_s + postgres_used_s() - postgres_s
    for process in (*ingests, closing):
        process.join()
    return Times(
        taken_s=max(each.s for each in took) - began,
        archived=Took(ends.archived.s - began, used_s),
        closed=Took(ends.closed.s - ends.archived.s, ends.closed.used_s),
        epoch=ends.epoch,
    )


def postgres_used_s() -> float:
    """Processor seconds so far of the PostgreSQL that this process has started; 0 of one that it has not."""
    times = [each.cpu_times() for each in psutil.Process().children(recursive=True) if each.name() == "postgres"]
    return sum(each.user + each.system + each.children_user + each.children_system for each in times)


async def close(dsn: str, folder: Path, start: Barrier, taken: Event) -> Closed:
    """File while others take; then end, archive, judge and state the epoch."""
    hub = MemoryHub()
    async with open_database(dsn) as database, ingest_on(database, hub).running():
        bus = hub.connect()
        closing = Closing(
            net=NET,
            holder="bench",
            sign=sign,
            network_key=bytes(NETWORK.verify_key),
            kinds=ComputeMetering.kinds,
            folder=folder / "closing",
            bus=bus,
            clock=SystemClock(),
            database=database,
            log=PostgresIngestStore(),
            store=PostgresEpochStore(),
            archive=folder_archive(folder),
            rules=Rules(),
            meterings={"compute": ComputeMetering()},
            attesting=without_chain(NET),
            conclude=conclude_apart,
        )
        await asyncio.to_thread(start.wait)
        used_s = own_used_s()
        while not await asyncio.to_thread(taken.wait, FILE_S):
            await closing.file_ahead()
        (end,) = await call(bus, END_EPOCH, EndEpoch(after=None, early=True), list[EpochEnd])
        async with asyncio.TaskGroup() as group:
            group.create_task(closing.close_next())
            at = await asyncio.to_thread(there, folder / path_of(end.epoch, MANIFEST))
            archived, used_s = Took(at, own_used_s() - used_s), own_used_s()
        assert (folder / path_of(end.epoch, STATEMENT)).exists()
        return Closed(archived, Took(time.monotonic(), own_used_s() - used_s), end.epoch)


def own_used_s() -> float:
    """Processor seconds of this process so far, and of those that it began and that have ended."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in usages)


def there(path: Path) -> float:
    """Wait until a file is there; when that was."""
    while not path.exists():
        time.sleep(0.01)
    return time.monotonic()


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
            times = await asyncio.to_thread(measure, dsn, folder, count, options.ingests)
        began = time.monotonic()
        found = await asyncio.to_thread(verify_epoch, folder, times.epoch, bytes(NETWORK.verify_key))
        verified_s = time.monotonic() - began
    raw_s = await asyncio.to_thread(signatures_s, batches, options.ingests)
    archived, rate, raw = times.archived, records / times.archived.s, records / raw_s
    print(f"{records} records in {batches} batches, taken and promised: {records / times.taken_s:,.0f}/s")
    print(f"and archived, {found.size / 1e6:,.0f} MB: {archived.said(records)}")
    print(f"on two idle processors at most {2 * records / archived.used_s:,.0f}/s")
    print(f"judged by compute's policy, folded and stated: {times.closed.said(records)}")
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
