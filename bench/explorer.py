"""The public explorer of a network of Aethir's size: every page's questions at 50 a second, and the map in a browser.

The network is `fallow up` with its default settings on PostgreSQL's tables with so many nodes, each with its owner's
place, and an archive of closed epochs, the latest of which has a line a node: its units are devices behind it, of which
nothing else of Fallow knows. No node runs: each is taken for alive (`tests/alive_roles.py`). Each question is asked by
strangers from some addresses at the times that 50 a second gives, whatever the answers take, and its time runs from
when it was due. Then a browser that draws in software drags the map at each zoom.

Baseline: PostgreSQL counts nodes and owners when it is asked.

    python bench/explorer.py [--nodes 43000] [--devices 4180000] [--seconds 5] [--only-made] [--no-browser]

430,000 nodes (`--nodes 430000 --devices 41800000`) need some 5 GB of memory. It says how far it is and under which
load, and ends after 25 minutes, with an error if it is not done.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))

import asyncpg
import httpx2

from bench import _field_page
from bench._field_asks import RATE, Asked, ask, questions, strangers_of
from bench._field_rows import fill, made_s
from bench._network import gateway_bus, lag_p99, lag_result, lags, processor_s
from fallow.adapters.clock import SystemClock
from fallow.bootstrap.place import read_place
from fallow.http.console import built
from tests.alive_roles import all_alive
from tests.engines import reachable_folder
from tests.network import running_network

SEED: Final = 3
BEGAN: Final = time.monotonic()
GOAL_MS: Final = 50.0
GOAL_FIRST_BYTES, GOAL_MAP_BYTES = 350_000, 700_000
LIMIT_S: Final = 1_500.0
READY_S: Final = 600.0
TELL_EVERY_S: Final = 10.0


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
    told = time.monotonic()
    async with asyncio.timeout(READY_S):
        while True:
            seen = await _on_the_map(stranger)
            if seen == nodes:
                return
            if time.monotonic() - told >= TELL_EVERY_S:
                told = time.monotonic()
                say(f"{seen:,} nodes are on the map")
            await asyncio.sleep(1.0)


async def _on_the_map(stranger: httpx2.AsyncClient) -> int:
    try:
        answer = await stranger.get("/v1/map?resolution=1")
    except httpx2.HTTPError as error:
        say(f"no answer yet: {error!r}")
        return 0
    if answer.status_code != httpx2.codes.OK:
        return 0
    seen = answer.json()
    return int(seen["rest"] + sum(cell["nodes"] for cell in seen["cells"]))


async def measure(options: argparse.Namespace, data: Path) -> list[dict[str, object]]:
    """Fill the tables, start the network on them, ask."""
    draw = random.Random(SEED)  # noqa: S311 - a reproducible draw
    with running_network(data):
        say("a new network runs: its tables are written")
        field = await fill(data, options.nodes, options.devices, draw)
    say(f"{options.nodes:,} nodes and {options.devices:,} devices are written; the network starts on them")
    with all_alive(data) as process:
        assert process.stdout is not None
        url = json.loads(await asyncio.to_thread(process.stdout.readline))["url"]
        strangers = strangers_of(url)
        say("it answers")
        await ready(strangers[0], options.nodes)
        say(f"all are counted and on the map; programs took (s): {_seconds(processor_s(data))}")
        async with gateway_bus(data, "bench") as bus:
            late = await lags(bus)
            found: dict[str, Asked] = {}
            for page, paths in questions(field, draw).items():
                found[page] = await ask(data, strangers, paths, options.seconds)
                say(f"{page:34} {found[page]}")
            p99 = lag_p99(late, await lags(bus))
        at = (await strangers[0].get("/v1/market")).json()["at"]
        say(f"totals are {(SystemClock().now_ms() - at) / 1000:.1f} s old")
        baseline = await counted_on_request_ms(read_place(data).postgres_dsn)
        drawn = [] if options.no_browser else await _field_page.measure(url)
        say("the end")
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
            "ok": found[slowest].p95 <= GOAL_MS and not any(one.refused for one in found.values()),
        },
        lag_result("explorer", p99),
        *sizes(),
        *drawn,
    ]


def say(what: str) -> None:
    """Tell how far it is, when, and under which load: others may use the machine."""
    print(f"{time.monotonic() - BEGAN:5.0f} s, load {os.getloadavg()[0]:4.1f}: {what}", flush=True)


def _seconds(spent: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {seconds:.1f}" for name, seconds in sorted(spent.items()))


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
    say(f"{options.nodes:,} nodes: counted in {counted:.2f} s of a processor, put on the map in {drawn:.2f} s")
    if options.only_made:
        return 0
    with reachable_folder() as folder:
        results = asyncio.run(asyncio.wait_for(measure(options, folder / "network"), LIMIT_S))
    print(json.dumps(results))
    return 0 if all(result["ok"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
