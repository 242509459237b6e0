"""How long an owner waits for the machine: from the moment that a probe sees him to the end of the sandbox's process.

A real agent and a real WebAssembly program that takes a whole core; each round is a new lease, and the owner comes back
at a moment drawn evenly from the second between two looks.

Baseline, in the same run: SIGKILL to a process that takes a whole core, and the wait for its end.

    python bench/reclaim.py [--rounds 20]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from fallow.agent.owner import LOOK_S
from fallow.agent.policy_file import IdlePolicy
from tests.reclaim_world import RealWorld, ending, until
from tests.unit.owner_fakes import FakeProbes, reading

GOAL_S = 2.0
SEED = 7


async def reclaim(rounds: int) -> list[float]:
    """Seconds of each round."""
    draw = random.Random(SEED)  # noqa: S311 - a reproducible draw
    took = []
    with tempfile.TemporaryDirectory() as folder:
        world = RealWorld(Path(folder), IdlePolicy(away_minutes=5, reopen_after_s=0))
        probes = FakeProbes()
        async with world.serving(probes):
            for number in range(1, rounds + 1):
                process = await world.work(number)
                await asyncio.sleep(draw.random() * LOOK_S)
                async with ending(process.pid) as ended:
                    began = time.monotonic()
                    probes.reading = reading(idle_s=0.0)
                    await ended.wait()
                    took.append(time.monotonic() - began)
                await world.receipt(number)
                probes.reading = reading()
                await until(lambda: bool(world.ingest.bodies("offer.made")[-1]["open"]))
                print(f"round {number:3}: {took[-1]:.3f} s", flush=True)
    return took


def kill_and_wait(rounds: int) -> list[float]:
    """Seconds from SIGKILL to the end of a busy process."""
    took = []
    for _ in range(rounds):
        with subprocess.Popen(["sh", "-c", "while :; do :; done"]) as process:
            time.sleep(0.1)
            began = time.monotonic()
            process.kill()
            process.wait()
            took.append(time.monotonic() - began)
    return took


def p95(values: list[float]) -> float:
    """The value that 95 % do not exceed."""
    return sorted(values)[min(len(values) - 1, round(0.95 * len(values)))]


def main() -> int:
    """Measure both, print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    took, bare = asyncio.run(reclaim(rounds)), kill_and_wait(rounds)
    print(f"reclaim: p50 {statistics.median(took):.3f} s, p95 {p95(took):.3f} s over {rounds} rounds")
    print(f"SIGKILL: p50 {statistics.median(bare) * 1000:.1f} ms, p95 {p95(bare) * 1000:.1f} ms")
    result = {
        "name": "reclaim",
        "value": round(p95(took), 3),
        "unit": "s (p95)",
        "p50": round(statistics.median(took), 3),
        "baseline": round(p95(bare), 5),
        "baseline_name": "SIGKILL of a busy process and the wait for its end (p95)",
        "ratio": round(p95(took) / p95(bare), 1),
        "goal": GOAL_S,
        "ok": max(took) <= GOAL_S,
    }
    print(json.dumps(result))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
