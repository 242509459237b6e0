"""What an idle agent takes of its owner's machine: memory, and its share of a processor core.

A real agent that has joined a real network on this machine and waits for work, heartbeats included. Memory is the
resident set size (RSS), shared libraries included: on its owner's machine nobody shares them. The seconds to reclaim
the machine are not measured here yet.

Baseline, in the same run: a Python process that has imported nothing and sleeps.

    python bench/agent.py [--seconds 20]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench._processes import MB, resident_bytes, share_of_a_core, unique_bytes
from tests.network import network, until

GOAL_MB = 80
GOAL_SHARE = 0.01
SETTLE_S = 5.0


async def measure(seconds: float) -> tuple[int, int, float]:
    """PSS, RSS and processor share of an idle agent that has done some work before."""
    async with network() as net, net.agent("barn") as agent:
        order = await net.submit([1000])
        await net.finished(order.id)
        pids = [agent.process.pid]
        # The kernel counts a child when it has ended, with all that it took before: those of the start and of the job.
        await until(lambda: not psutil.Process(agent.process.pid).children(), "no child is left")
        await asyncio.sleep(SETTLE_S)
        share = await asyncio.to_thread(share_of_a_core, pids, seconds)
        return unique_bytes(pids), resident_bytes(pids), share


def measure_python(seconds: float) -> tuple[int, float]:
    """RSS and processor share of a Python that does nothing."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        try:
            time.sleep(1.0)
            return resident_bytes([process.pid]), share_of_a_core([process.pid], seconds)
        finally:
            process.kill()


def main() -> int:
    """Measure both, print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    seconds = parser.parse_args().seconds
    pss, rss, share = asyncio.run(measure(seconds))
    bare_rss, bare_share = measure_python(min(seconds, 5.0))
    print(f"memory: {rss / MB:.1f} MB (RSS), {pss / MB:.1f} MB (PSS: less what other processes here share)")
    print(f"{share:.2%} of a core over {seconds:g} s")
    results = [
        {
            "name": "agent-memory",
            "value": round(rss / MB, 1),
            "unit": "MB resident, idle",
            "baseline": round(bare_rss / MB, 1),
            "baseline_name": "a Python process that sleeps",
            "ratio": round(rss / bare_rss, 1),
            "goal": GOAL_MB,
            "ok": rss <= GOAL_MB * MB,
        },
        {
            "name": "agent-cpu",
            "value": round(100 * share, 2),
            "unit": "% of a core, idle",
            "baseline": round(100 * bare_share, 2),
            "baseline_name": "a Python process that sleeps",
            "ratio": None,
            "goal": 100 * GOAL_SHARE,
            "ok": share < GOAL_SHARE,
        },
    ]
    print(json.dumps(results))
    return 0 if all(result["ok"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
