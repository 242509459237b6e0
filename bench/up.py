"""How long `fallow up` takes on a warm data folder, and the memory of a whole idle network.

Ready means: the command has printed the network's URL, and the gateway answers. Memory is the proportional set size
(PSS) of every process of the network, `fallow up` itself included, some seconds after the start.

Baseline, in the same run: PostgreSQL and nats-server alone, with the same settings and the same supervisor, on a warm
folder, until both take connections; and their memory.

    python bench/up.py [--runs 5]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench._processes import MB, resident_bytes, unique_bytes
from fallow.adapters.engines.nats import EmbeddedNats
from fallow.adapters.engines.postgres import EmbeddedPostgres
from tests.network import first_line, leave_nothing, processes_of, stop, up

GOAL_S = 6.0
GOAL_MB = 500
SETTLE_S = 5.0


def run_network(data: Path) -> tuple[float, int, int]:
    """Start and stop a network; returns the seconds to ready, and PSS and RSS when idle."""
    log = data.parent / "up.log"
    began = time.monotonic()
    process = up(data, log)
    try:
        url = json.loads(first_line(process, log))["url"]
        with urllib.request.urlopen(f"{url}/v1/network") as answer:  # noqa: S310 - our own gateway
            assert answer.status == 200
        ready = time.monotonic() - began
        time.sleep(SETTLE_S)
        pids = processes_of(data)
        return ready, unique_bytes(pids), resident_bytes(pids)
    finally:
        stop(process)
        leave_nothing(data)


async def run_engines(data: Path) -> tuple[float, int]:
    """Start and stop the bare engines; returns the seconds to ready and PSS."""
    began = time.monotonic()
    async with EmbeddedPostgres(data), EmbeddedNats(data):
        ready = time.monotonic() - began
        await asyncio.sleep(SETTLE_S)
        return ready, unique_bytes(processes_of(data))


def main() -> int:
    """Measure both, print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory(prefix="fallow-bench-") as folder:
        Path(folder).chmod(0o711)  # the engines run as an unprivileged user, who has to pass through
        data, engines = Path(folder, "network"), Path(folder, "engines")
        cold, *_ = run_network(data)
        asyncio.run(run_engines(engines))
        networks = [run_network(data) for _ in range(runs)]
        bare = [asyncio.run(run_engines(engines)) for _ in range(runs)]
    ready, pss, rss = (statistics.median(values) for values in zip(*networks, strict=True))
    bare_ready, bare_pss = (statistics.median(values) for values in zip(*bare, strict=True))
    print(f"first start, which makes the database: {cold:.2f} s")
    print(f"warm starts: {', '.join(f'{each[0]:.2f}' for each in networks)} s")
    print(f"bare engines: {', '.join(f'{each[0]:.2f}' for each in bare)} s")
    print(f"memory: {pss / MB:.0f} MB (PSS); {rss / MB:.0f} MB when shared pages count for each process (RSS)")
    results = [
        {
            "name": "up",
            "value": round(ready, 2),
            "unit": "s to ready, warm",
            "baseline": round(bare_ready, 2),
            "baseline_name": "PostgreSQL and nats-server alone",
            "ratio": round(ready / bare_ready, 1),
            "goal": GOAL_S,
            "ok": ready <= GOAL_S,
        },
        {
            "name": "up-memory",
            "value": round(pss / MB),
            "unit": "MB resident, whole idle network",
            "baseline": round(bare_pss / MB),
            "baseline_name": "PostgreSQL and nats-server alone",
            "ratio": round(pss / bare_pss, 1),
            "goal": GOAL_MB,
            "ok": pss <= GOAL_MB * MB,
        },
    ]
    print(json.dumps(results))
    return 0 if all(result["ok"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
