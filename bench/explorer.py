"""The public explorer of a network of Aethir's size: every page's questions at 50 a second, and the map in a browser.

The network is `fallow up` with its default settings on PostgreSQL's tables with so many nodes, each with its owner's
place, and an archive of closed epochs, the latest of which has a line a node: its units are devices behind it, of which
nothing else of Fallow knows. No node runs: each is taken for alive (`tests/alive_roles.py`). Each question is asked by
strangers from some addresses at the times that 50 a second gives, whatever the answers take, and its time runs from
when it was due. Then a browser that draws in software drags the map at each zoom.

Baseline: PostgreSQL counts nodes and owners when it is asked.

    python bench/explorer.py [--nodes 43000] [--devices 4180000] [--seconds 5] [--only-made] [--no-browser]

430,000 nodes (`--nodes 430000 --devices 41800000`) need some 5 GB of memory and ten minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

import asyncpg
import httpx2

from bench import _field_page
from bench._field_rows import Field, fill, made_s
from bench._network import gateway_bus, lag_p99, lag_result, lags, processor_s
from fallow.adapters.clock import SystemClock
from fallow.bootstrap.place import read_place
from fallow.domain.identity import address_text
from fallow.domain.places import parent, read_cell
from fallow.http.console import built
from tests.alive_roles import all_alive
from tests.engines import reachable_folder
from tests.network import running_network

SEED: Final = 3
RATE: Final = 50
STRANGERS: Final = 16
"""Addresses that ask: a gateway lets each ask ten times a second."""

GOAL_MS: Final = 50.0
GOAL_FIRST_BYTES, GOAL_MAP_BYTES = 350_000, 700_000
READY_S: Final = 900.0


class Asked(NamedTuple):
    """How long answers took, in milliseconds; the most bytes; what the whole network took of a processor for each."""

    p50: float
    p95: float
    worst: float
    bytes: int
    processor_ms: float


def questions(field: Field, draw: random.Random) -> dict[str, list[str]]:
    """What pages ask, by page; of many alike some are drawn."""
    nodes = [node.hex() for node in draw.choices(field.nodes, k=100)]
    accounts = [address_text(account) for account in draw.choices(field.accounts, k=100)]
    places = [read_cell(f"{draw.uniform(-50, 65)},{draw.uniform(-170, 170)}") for _ in range(100)]
    epoch = field.epoch
    return {
        "overview, sector: totals": ["/v1/market"],
        "all: the network": ["/v1/network"],
        "all: the page itself": ["/"],
        "overview, epochs: latest epochs": ["/v1/epochs?limit=20"],
        "epoch": [f"/v1/epochs/{epoch}"],
        "epoch: statement": [f"/v1/epochs/{epoch}/files/statement"],
        "epoch: votes": [f"/v1/epochs/{epoch}/votes"],
        "epoch: an account's proof": [f"/v1/epochs/{epoch}/proofs/{account}" for account in accounts],
        "account: where it is paid": [f"/v1/payouts/{account}" for account in accounts],
        "nodes: 200 of them": [f"/v1/nodes?limit=200&after={node}" for node in nodes],
        "node": [f"/v1/nodes/{node}" for node in nodes],
        "map: whole, resolution 1": ["/v1/map?resolution=1"],
        "map: whole, resolution 2": ["/v1/map?resolution=2"],
        **{
            f"map: near, resolution {coarse + 3}": [f"/v1/map?around={parent(place, coarse)}" for place in places]
            for coarse in range(3)
        },
        "checks": ["/v1/checks"],
        "roll calls": ["/v1/roll-calls"],
    }


async def ask(data: Path, strangers: Sequence[httpx2.AsyncClient], paths: Sequence[str], seconds: int) -> Asked:
    """Ask in turn, at `RATE`; raises where an answer is none."""
    took: list[float] = []
    sizes: list[int] = []
    before = sum(processor_s(data).values())
    began = time.monotonic()

    async def one(number: int) -> None:
        due = began + number / RATE
        await asyncio.sleep(due - time.monotonic())
        answer = await strangers[number % STRANGERS].get(paths[number % len(paths)])
        assert answer.status_code == 200, answer.text
        took.append(1000 * (time.monotonic() - due))
        sizes.append(len(answer.content))

    async with asyncio.TaskGroup() as group:
        for number in range(RATE * seconds):
            group.create_task(one(number))
    used = sum(processor_s(data).values()) - before
    took.sort()
    return Asked(statistics.median(took), took[int(0.95 * len(took))], took[-1], max(sizes), 1000 * used / len(took))


def strangers_of(url: str) -> list[httpx2.AsyncClient]:
    """Clients that connect from an address each."""
    transports = [httpx2.AsyncHTTPTransport(local_address=f"127.0.{number}.1") for number in range(1, STRANGERS + 1)]
    return [httpx2.AsyncClient(base_url=url, transport=transport, timeout=60.0) for transport in transports]


async def counted_on_request_ms(dsn: str) -> float:
    """What the same would take at least, if it were counted when somebody asks."""
    server: asyncpg.Connection[Any] = await asyncpg.connect(dsn)
    try:
        took = []
        for _ in range(5):
            began = time.monotonic()
            await server.fetch("SELECT count(*), count(DISTINCT account) FROM registry.node")
            took.append(1000 * (time.monotonic() - began))
        return statistics.median(took)
    finally:
        await server.close()


async def ready(stranger: httpx2.AsyncClient, nodes: int) -> None:
    """Wait until the market has counted all nodes and put them on the map."""
    async with asyncio.timeout(READY_S):
        while True:
            answer = await stranger.get("/v1/map?resolution=1")
            if answer.status_code == 200:
                seen = answer.json()
                if seen["rest"] + sum(cell["nodes"] for cell in seen["cells"]) == nodes:
                    return
            await asyncio.sleep(1.0)


async def measure(options: argparse.Namespace, data: Path) -> list[dict[str, object]]:
    """Fill the tables, start the network on them, ask."""
    draw = random.Random(SEED)  # noqa: S311 - a reproducible draw
    began = time.monotonic()
    with running_network(data):
        field = await fill(data, options.nodes, options.devices, draw)
    print(f"{options.nodes:,} nodes and {options.devices:,} devices written in {time.monotonic() - began:.0f} s")
    began = time.monotonic()
    with all_alive(data) as process:
        assert process.stdout is not None
        url = json.loads(await asyncio.to_thread(process.stdout.readline))["url"]
        strangers = strangers_of(url)
        await ready(strangers[0], options.nodes)
        print(f"all counted and on the map {time.monotonic() - began:.0f} s after the start", flush=True)
        async with gateway_bus(data, "bench") as bus:
            late = await lags(bus)
            found = {
                page: await ask(data, strangers, paths, options.seconds)
                for page, paths in questions(field, draw).items()
            }
            p99 = lag_p99(late, await lags(bus))
        for page, one in found.items():
            print(
                f"{page:34} p50 {one.p50:6.1f}  p95 {one.p95:6.1f}  worst {one.worst:6.1f} ms;"
                f" {one.processor_ms:4.1f} ms of processor, {one.bytes:,} bytes"
            )
        at = (await strangers[0].get("/v1/market")).json()["at"]
        print(f"totals are {(SystemClock().now_ms() - at) / 1000:.1f} s old")
        baseline = await counted_on_request_ms(read_place(data).postgres_dsn)
        drawn = [] if options.no_browser else await _field_page.measure(url)
        for stranger in strangers:
            await stranger.aclose()
    slowest = max(found, key=lambda page: found[page].p95)
    return [
        {
            "name": "explorer",
            "value": round(found[slowest].p95, 1),
            "unit": f"ms p95 at {RATE} a second, the slowest of {len(found)} questions ({slowest})",
            "baseline": round(baseline, 1),
            "baseline_name": "ms, nodes and owners counted by PostgreSQL on request",
            "ratio": round(found[slowest].p95 / baseline, 2),
            "goal": GOAL_MS,
            "ok": found[slowest].p95 <= GOAL_MS,
        },
        lag_result("explorer", p99),
        *sizes(),
        *drawn,
    ]


def sizes() -> list[dict[str, object]]:
    """Compressed bytes of scripts: those of every page, and those that the map adds."""
    scripts = {name: len(file.packed) for name, file in built().items() if name.endswith(("js", "mjs"))}
    first = sum(size for name, size in scripts.items() if name.startswith("assets/index-"))
    return [
        _size("explorer-script", first, GOAL_FIRST_BYTES),
        _size("explorer-map", sum(scripts.values()) - first, GOAL_MAP_BYTES),
    ]


def _size(name: str, value: int, goal: int) -> dict[str, object]:
    shared = {"baseline": None, "baseline_name": None, "ratio": None}
    return {"name": name, "value": value, "unit": "bytes of script, gzip", **shared, "goal": goal, "ok": value <= goal}


def main() -> int:
    """Measure, print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=43_000)
    parser.add_argument("--devices", type=int, default=4_180_000)
    parser.add_argument("--seconds", type=int, default=5, help="for which each question is asked")
    parser.add_argument("--only-made", action="store_true", help="measure what the market makes by itself, and no more")
    parser.add_argument("--no-browser", action="store_true", help="leave the map out")
    options = parser.parse_args()
    counted, drawn = asyncio.run(made_s(options.nodes, random.Random(SEED)))  # noqa: S311 - a reproducible draw
    print(f"{options.nodes:,} nodes: counted in {counted:.2f} s of a processor, put on the map in {drawn:.2f} s")
    if options.only_made:
        return 0
    with reachable_folder() as folder:
        results = asyncio.run(measure(options, folder / "network"))
    print(json.dumps(results))
    return 0 if all(result["ok"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
