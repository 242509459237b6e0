"""A pass over all segments of a large storage network, and pages of lists in buckets of growing size, on PostgreSQL.

Segments are coded 29 of 80 on 20,000 nodes, two to an owner and network; each has between 37 and 80 pieces left. Rows
are as the network writes them, but for their way into the table. One pass is made while all nodes are there, and one
after a hundredth of them was lost: the segments that then have 36 pieces or fewer are put into the queue. Then pages of
1,000 names are listed, from random places, in buckets of a hundredth, a tenth and all of the objects.

Baseline: the same found in SQL, by a subquery over the nodes of each of the first 20,000 segments.

    python bench/repair_scan.py [--segments 200000] [--objects 500000] [--seed 1]

39 million segments take some 22 GB of disk. A pass reads them in the order of the table.
FALLOW_BENCH_DSN names a PostgreSQL whose user may create databases; without it one is started in a temporary folder.
"""

# ruff: noqa: S608 - queries of numbers that are made here

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Final

import asyncpg

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.ledger import fresh_database, postgres_dsn
from fallow.adapters.clock import SystemClock
from fallow.adapters.postgres.database import PostgresDatabase, open_database
from fallow.adapters.postgres.migrations import load, migrate
from fallow.adapters.postgres.registry import PostgresRegistryStore
from fallow.domain.identity import address_text
from fallow.verticals.storage.control.ground import Ground, Kind
from fallow.verticals.storage.control.keeping import Keeping
from fallow.verticals.storage.control.nodes import LOST_MS, Nodes
from fallow.verticals.storage.control.scanning import EVERY_MS, Scan
from fallow.verticals.storage.control.segments import SegmentRows
from fallow.verticals.storage.control.service import Objects
from fallow.verticals.storage.core.calls.base import PAGE_MAX
from fallow.verticals.storage.core.calls.objects import ListObjects
from fallow.verticals.storage.core.profiles import WIDE
from fallow.verticals.storage.plugin import VERTICAL

NODES: Final = 20_000
LOST: Final = NODES // 100
SEGMENTS: Final = 39_000_000
"""Of a network of Storj's size: 2.5 PB."""
GOAL_S: Final = 7_200.0
"""For all of these: Storj's pass begins every two hours."""
PLACES: Final = 100_000
"""Ways in which segments lie on nodes; so many, of all that are possible, are drawn."""
AT_ONCE: Final = 500_000
BASELINE_ROWS: Final = 20_000
PAGES: Final = 40
ACCOUNT: Final = b"b" * 20


class Later(SystemClock):
    """The machine's clock, set forward by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.more_ms = 0

    def now_ms(self) -> int:
        """See the port."""
        return super().now_ms() + self.more_ms

    def monotonic_ms(self) -> int:
        """See the port."""
        return super().monotonic_ms() + self.more_ms


async def fill_nodes(server: asyncpg.Connection[Any], now_ms: int) -> None:
    """Nodes whose aliases are 1 to `NODES`."""
    await server.execute(
        "INSERT INTO storage.node (node, account, network, country, limit_bytes, used_bytes, room_bytes, seen_ms,"
        f" trouble) SELECT sha256(n::text::bytea), substr(sha256((n / 2)::text::bytea), 1, 20), 'net ' || n / 2, '',"
        f" 0, 0, 0, {now_ms}, '' FROM generate_series(0, {NODES - 1}) AS n"
    )


async def fill_segments(server: asyncpg.Connection[Any], count: int, draw: random.Random) -> None:
    """Segments in random places; their indexes are made at the end."""
    await server.execute("CREATE UNLOGGED TABLE place (n integer, nodes integer[])")
    places = [(n, _place(draw)) for n in range(min(PLACES, count))]
    await server.copy_records_to_table("place", records=places)
    await server.execute(
        "CREATE INDEX ON place (n); ANALYZE place; ALTER TABLE storage.segment SET UNLOGGED;"
        "ALTER TABLE storage.segment DROP CONSTRAINT segment_pkey; DROP INDEX storage.segment_stream"
    )
    for start in range(0, count, AT_ONCE):
        stop = min(start + AT_ONCE, count) - 1
        await server.execute(
            "INSERT INTO storage.segment"
            " (id, bucket, stream, part, number, payload, key, profile, nodes, made_ms, kept)"
            " SELECT uuid_send(gen_random_uuid()), 1, uuid_send(gen_random_uuid()), 0, 0, 67092480,"
            f" repeat('k', 60)::bytea, '{WIDE.name}', p.nodes, 1700000000000, true"
            f" FROM generate_series({start}, {stop}) AS s JOIN place p ON p.n = s % {len(places)}"
        )
        print(f"{stop + 1:,} segments written", flush=True)
    await server.execute(
        "SET maintenance_work_mem = '1GB'; SET max_parallel_maintenance_workers = 1;"
        "ALTER TABLE storage.segment ADD PRIMARY KEY (id);"
        "CREATE UNIQUE INDEX segment_stream ON storage.segment (bucket, stream, part, number)"
    )


def _place(draw: random.Random) -> list[int]:
    """Nodes of distinct owners, of which some have lost their piece."""
    pieces = draw.randint(WIDE.repair + 1, WIDE.pieces)
    nodes = [2 * owner + draw.randint(1, 2) for owner in draw.sample(range(NODES // 2), pieces)]
    nodes += [0] * (WIDE.pieces - pieces)
    draw.shuffle(nodes)
    return nodes


async def passes(database: PostgresDatabase, server: asyncpg.Connection[Any], clock: Later) -> dict[str, Any]:
    """Seconds of a pass while all are there and after some were lost, and what was found."""
    found: dict[str, Any] = {}
    for what in ("whole", "lost"):
        nodes = Nodes(clock, database, PostgresRegistryStore())
        clock.more_ms += LOST_MS + EVERY_MS
        lost = LOST if what == "lost" else 0
        await server.execute(
            f"UPDATE storage.node SET seen_ms = CASE WHEN alias <= {lost} THEN 0 ELSE {clock.now_ms()} END"
        )
        async with database.transaction() as tx:
            await nodes.of(tx, range(1, NODES + 1))
        scan, began, pages = Scan(clock, database, nodes), time.perf_counter(), [0.0]
        while True:
            page_began = time.perf_counter()
            more = await scan.page()
            pages.append(time.perf_counter() - page_began)
            if not more:
                break
        found[f"{what}_s"] = time.perf_counter() - began
        found[f"{what}_page_ms"] = round(statistics.median(pages) * 1000, 1)
        found[f"{what}_found"] = await server.fetchval("SELECT count(*) FROM storage.repair")
        print(f"{what}: {found[f'{what}_s']:.1f} s, {found[f'{what}_found']:,} segments in the queue", flush=True)
    return found


async def baseline(server: asyncpg.Connection[Any]) -> float:
    """Segments a second in SQL."""
    began = time.perf_counter()
    await server.fetchval(
        f"SELECT count(*) FROM (SELECT nodes FROM storage.segment LIMIT {BASELINE_ROWS}) AS s WHERE"
        " (SELECT least(count(DISTINCT account), count(DISTINCT network)) FROM unnest(nodes) AS alias"
        f"  JOIN storage.node USING (alias) WHERE seen_ms > 0) <= {WIDE.repair}"
    )
    took = time.perf_counter() - began
    return min(BASELINE_ROWS, int(await server.fetchval("SELECT count(*) FROM storage.segment"))) / took


async def lists(
    database: PostgresDatabase, server: asyncpg.Connection[Any], objects: int, draw: random.Random
) -> tuple[dict[int, float], dict[int, float]]:
    """Milliseconds of a page, the median of some from random places, by how many objects there are in the bucket.

    First with their heads, as clients ask for it, then without.
    """
    listing = _objects(database).handlers()[ListObjects]
    took: dict[bool, dict[int, float]] = {True: {}, False: {}}
    await server.execute("ALTER TABLE storage.object SET UNLOGGED")
    for bucket, count in enumerate((objects // 100, objects // 10, objects), 1):
        await server.execute(
            "INSERT INTO storage.bucket (name, account, made_ms, profile, countries, versioning, lock)"
            " VALUES ($1, $2, 1, '', '{}', 'off', false)",
            f"bucket-{bucket}",
            ACCOUNT,
        )
        await server.execute(
            "INSERT INTO storage.object (bucket_id, size, until_ms, retention, is_null, marker, hold, name, version,"
            f" stream, etag, key, slashes, parts, head, tags, inline) SELECT {bucket}, 1000000, 0, 0, true, false,"
            " false, ('folder-' || lpad((n / 1000)::text, 8, '0') || '/picture-' || lpad(n::text, 10, '0'))::bytea,"
            " int8send(n) || int8send(n), uuid_send(gen_random_uuid()), '0123456789abcdef0123456789abcdef', '',"
            f" '{{16}}', NULL, repeat('h', 150)::bytea, '', NULL FROM generate_series(0::bigint, {count - 1}) AS n"
        )
        await server.execute("VACUUM ANALYZE storage.object")
        times: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(PAGES):
            at = draw.randrange(max(1, count - PAGE_MAX))
            after = f"folder-{at // 1000:08}/picture-{at:010}".encode()
            for heads, here in times.items():
                asked = ListObjects(account=address_text(ACCOUNT), bucket=f"bucket-{bucket}", after=after, heads=heads)
                began = time.perf_counter()
                page = await listing(asked)
                here.append(time.perf_counter() - began)
                assert page is not None
        for heads, here in times.items():
            took[heads][count] = round(statistics.median(here) * 1000, 1)
            what = "with" if heads else "without"
            print(f"a page of a list among {count:,} objects {what} heads: {took[heads][count]} ms", flush=True)
    return took[True], took[False]


def _objects(database: PostgresDatabase) -> Objects:
    clock = SystemClock()

    async def may(account: str) -> None:
        raise AssertionError(account)

    def counted(account: bytes, bucket_id: int, kind: Kind) -> None:
        pass

    return Objects(Ground(database, SegmentRows(clock), clock, may, may, counted, Keeping(clock), random.randbytes))


async def main() -> int:
    """Measure, and print one line of JSON for `make bench`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", type=int, default=200_000)
    parser.add_argument("--objects", type=int, default=500_000, help="of the largest bucket")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    draw, clock = random.Random(options.seed), Later()  # noqa: S311 - a workload
    assert VERTICAL.migrations is not None
    async with postgres_dsn() as engine, fresh_database(engine) as dsn, open_database(dsn) as database:
        await migrate(database, load(VERTICAL.name, VERTICAL.migrations))
        server = await asyncpg.connect(dsn)
        try:
            began = time.perf_counter()
            await fill_nodes(server, clock.now_ms())
            await fill_segments(server, options.segments, draw)
            await server.execute("VACUUM ANALYZE storage.segment")
            size = await server.fetchval("SELECT pg_total_relation_size('storage.segment')")
            print(
                f"{options.segments:,} segments, {size / 1e9:.1f} GB, in {time.perf_counter() - began:.0f} s",
                flush=True,
            )
            found = await passes(database, server, clock)
            plain = await baseline(server)
            took, headless = await lists(database, server, options.objects, draw)
        finally:
            await server.close()
    rate = options.segments / found["lost_s"]
    smallest, largest = min(took), max(took)
    rows = [
        {
            "name": "repair-scan",
            "value": round(rate),
            "unit": f"segments/s in a pass over {options.segments:,}, a hundredth of {NODES:,} nodes lost"
            f" ({SEGMENTS / rate / 60:.0f} min for {SEGMENTS:,})",
            "baseline": round(plain),
            "baseline_name": "the same in SQL",
            "ratio": round(rate / plain, 1),
            "goal": round(SEGMENTS / GOAL_S),
            "ok": rate >= SEGMENTS / GOAL_S and found["whole_found"] == 0 < found["lost_found"],
            **found,
        },
        {
            "name": "repair-scan-list",
            "value": took[largest],
            "unit": f"ms for a page of {PAGE_MAX} names with their heads among {largest:,}",
            "baseline": took[smallest],
            "baseline_name": f"among {smallest:,}",
            "ratio": round(took[largest] / took[smallest], 2),
            "goal": None,
            "ok": took[largest] <= 2 * took[smallest],
            "pages_ms": took,
            "pages_without_heads_ms": headless,
        },
    ]
    print(json.dumps(rows))
    return 0 if all(row["ok"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
