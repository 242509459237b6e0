"""Tasks a second from order to settlement: many nodes, many orders, the network as `fallow up` runs it.

The network is `fallow up` with its default settings: PostgreSQL (fsync and synchronous_commit on), NATS, core and
gateway. Nodes are simulated (`_nodes.py`): each has its own key and connection, signs what it says, and its work is to
wait for some milliseconds. Orders come in one by one over the bus, as the gateway hands them on, and differ in what
they ask for: cores, memory, country, Python's version, price. The clock runs from the first order to the news that the
last job is done, with its money moved; then every job, lease and transfer is audited in the database.

Baseline, in the same run and on the same PostgreSQL: procrastinate, a task queue, with as many tasks that do nothing,
deferred one by one as well, at the concurrency that does best here.

    python bench/dispatch.py [--nodes 1200] [--jobs 6000] [--buyers 8]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

import msgspec

from bench import _audit, _procrastinate
from bench._network import crowds, difference, gateway_bus, join_all, lag_p99, lag_result, lags, new_buyer, processor_s
from bench._shapes import offers, orders
from fallow.adapters.nats.bus import NatsBus
from fallow.bootstrap.place import read_place
from fallow.domain import calls
from fallow.domain.jobs import FINAL
from fallow.domain.orders import Order
from fallow.domain.views.jobs import JobEvent, JobView
from fallow.ports.rpc import call
from tests.network import running_network

GOAL = 1_000
GOAL_RATIO = 3
SEED = 11
SUBMITTING = 256
"""Orders on their way at a time."""

WORK_S = 0.01
USD_A_BUYER = 10_000
ENDS_WITHIN_S = 150.0


class Ends:
    """Hears which jobs have ended, as whoever watches them does."""

    def __init__(self, jobs: Sequence[Order]) -> None:
        self.open = {order.id for order in jobs}
        self.all = asyncio.Event()
        self.last_at = 0.0

    async def hear(self, bus: NatsBus, listening: asyncio.Event) -> None:
        """Listen until all have ended."""
        async with bus.subscribe("events.job.>", pending_max=1_000_000) as messages:
            listening.set()
            async for message in messages:
                event = msgspec.json.decode(message.data, type=JobEvent)
                if event.item is None and event.state in FINAL:
                    self.open.discard(event.job)
                if not self.open:
                    self.last_at = time.monotonic()
                    self.all.set()
                    return


class Measured(NamedTuple):
    """How long it took, and how long an order took to be taken (p50 and p99)."""

    seconds: float
    taken_s: list[float]


async def run_jobs(bus: NatsBus, watching: NatsBus, jobs: Sequence[Order], accounts: Sequence[str]) -> Measured:
    """Order everything and wait for the last end."""
    ends, listening, waiting, taken = Ends(jobs), asyncio.Event(), iter(enumerate(jobs)), list[float]()

    async def buy() -> None:
        for number, order in waiting:
            began = time.monotonic()
            submit = calls.jobs.Submit(account=accounts[number % len(accounts)], order=order)
            await call(bus, calls.jobs.SUBMIT, submit, JobView, timeout_s=60.0)
            taken.append(time.monotonic() - began)

    async with asyncio.TaskGroup() as group:
        group.create_task(ends.hear(watching, listening))
        await listening.wait()
        began = time.monotonic()
        for _ in range(SUBMITTING):
            group.create_task(buy())
        try:
            async with asyncio.timeout(ENDS_WITHIN_S):
                await ends.all.wait()
        except TimeoutError:
            raise SystemExit(f"{len(ends.open)} of {len(jobs)} jobs have not ended in {ENDS_WITHIN_S:.0f} s") from None
    return Measured(ends.last_at - began, sorted(taken))


async def measure(options: argparse.Namespace) -> list[dict[str, object]]:
    """Run the network, then the baseline."""
    draw = random.Random(SEED)  # noqa: S311 - a reproducible draw
    jobs = orders(options.jobs, draw)
    with running_network() as net:
        async with gateway_bus(net.data, "buyers") as bus, gateway_bus(net.data, "watcher") as watching:
            accounts = [await new_buyer(bus, USD_A_BUYER) for _ in range(options.buyers)]
            began = time.monotonic()
            specs = await join_all(bus, offers(options.nodes, draw), draw)
            print(f"{len(specs)} nodes joined in {time.monotonic() - began:.1f} s", flush=True)
            began = time.monotonic()
            async with crowds(net.data, specs, options.processes, WORK_S) as running:
                print(f"all connected and on offer in {time.monotonic() - began:.1f} s", flush=True)
                before, ours, late = processor_s(net.data), time.process_time(), await lags(bus)
                found = await run_jobs(bus, watching, jobs, accounts)
                p99 = lag_p99(late, await lags(bus))
                used, ours = difference(processor_s(net.data), before), time.process_time() - ours
                said = [await crowd.said(end=True) for crowd in running]
        dsn = read_place(net.data).postgres_dsn
        faults = await _audit.audit(dsn, [order.id for order in jobs])
        rate = len(jobs) / found.seconds
        print(f"{len(jobs)} jobs in {found.seconds:.2f} s: {rate:.0f}/s")
        print(f"an order is taken in {1000 * found.taken_s[len(jobs) // 2]:.0f} ms (p50), "
              f"{1000 * found.taken_s[int(0.99 * len(jobs))]:.0f} ms (p99)")  # fmt: skip
        print(f"batches {sum(each.batches for each in said)}, records {sum(each.records for each in said)}, "
              f"declined {sum(each.declined for each in said)}")  # fmt: skip
        each = {name: f"{1000 * seconds / len(jobs):.2f}" for name, seconds in {**used, "buyers": ours}.items()}
        print(f"milliseconds of processor a job: {each}; the nodes', connecting included: "
              f"{1000 * sum(one.processor_s for one in said) / len(jobs):.2f}")  # fmt: skip
        print(f"audit: {faults or 'one reserve and one settlement a job, sums exact, ledger check holds'}", flush=True)
        baseline = await _procrastinate.measure(dsn, len(jobs))
    print(f"procrastinate: {baseline.tasks_s:.0f}/s, with deferring left out {baseline.working_s:.0f}/s")
    return [
        {
            "name": "dispatch",
            "value": round(rate),
            "unit": "jobs/s, from order to settlement",
            "baseline": round(baseline.tasks_s),
            "baseline_name": f"procrastinate, no-op tasks, {baseline.concurrency} at a time",
            "ratio": round(rate / baseline.tasks_s, 2),
            "goal": GOAL,
            "goal_ratio": GOAL_RATIO,
            "ok": not faults and rate >= GOAL and rate >= GOAL_RATIO * baseline.tasks_s,
        },
        lag_result("dispatch", p99),
    ]


def main() -> int:
    """Measure, print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=1200)
    parser.add_argument("--jobs", type=int, default=6000)
    parser.add_argument("--buyers", type=int, default=8)
    parser.add_argument("--processes", type=int, default=1, help="that the nodes are spread over")
    results = asyncio.run(measure(parser.parse_args()))
    print(json.dumps(results))
    return 0 if all(result["ok"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
