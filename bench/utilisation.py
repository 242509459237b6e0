"""How much of what owners leave of their machines becomes finished work.

The production services (registry, ingest, ledger, market with its dispatch) run as they are under the simulation's
virtual time (tests/sim), with an untroubled bus. The nodes are `_nodes.py`'s; their owners (`_owners.py`) take back
cores whenever something of their own starts, which ends the leases that no longer fit, and switch machines off without
a word, which the market finds out by their silence. A backlog of items of one core and one to ten minutes is always
there; nothing is saved of an item that is interrupted.

Of the core-seconds that owners left while the clock ran: *busy* were those with a lease, *useful* those whose item came
to its end and was paid. The oracle knows beforehand what each owner will do: it fills every gap that holds the shortest
item. It is a bound that no market reaches.

    python bench/utilisation.py [--machines 10] [--minutes 120] [--seed 5]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from nacl.signing import SigningKey

from bench._network import lag_result
from bench._nodes import Ground, Node, Spec, joined
from bench._owners import Change, Machine, machines, read_pods
from fallow.adapters.memory.budgets import MemoryBudgetStore
from fallow.adapters.memory.checks import MemoryCheckStore
from fallow.adapters.memory.decisions import MemoryDecisionStore
from fallow.adapters.memory.ingest import MemoryIngestStore
from fallow.adapters.memory.ledger import MemoryLedger
from fallow.adapters.memory.market import MemoryMarketStore
from fallow.adapters.memory.registry import MemoryRegistryStore
from fallow.bootstrap.lag import LOOK_MS
from fallow.domain import calls
from fallow.domain.facts import OfferMade
from fallow.domain.leases import Lease
from fallow.domain.orders import Order, Requirements
from fallow.domain.resources import Resources, Terms
from fallow.domain.views.jobs import JobView
from fallow.ports.rpc import call
from tests.faulty_database import FaultyDatabase
from tests.network import fresh_id
from tests.sim import core as sim_core
from tests.sim import loop as sim_loop
from tests.sim.net import Net

GOAL = 0.95
SEED = 5
SHORTEST_S, LONGEST_S = 60, 600
LENGTHS_S = (60, 120, 300, 600)
"""Bounds of the classes of items, whose useful part is told apart."""

ITEMS_A_JOB = 1_000
LEASES_MAX = 10**9
USD = 1_000_000
"""Micro-US-dollars."""


class Span(NamedTuple):
    """When a node worked on a lease (seconds), and how long its item takes."""

    lease: str
    start: float
    end: float
    takes: float


class TimedLoop(sim_loop.SimLoop):
    """How late a look every 10 ms would be, as `fallow.bootstrap.lag` counts it, were the loop always busy.

    By processor time: in this loop the clock on the wall is a number. Market and nodes share it.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.late_ms: list[float] = []
        self._busy_ms, self._due_ms = 0.0, float(LOOK_MS)

    def _run_once(self) -> None:
        began = time.thread_time()
        super()._run_once()
        self._busy_ms += 1000 * (time.thread_time() - began)
        while self._due_ms <= self._busy_ms:
            self.late_ms.append(self._busy_ms - self._due_ms)
            self._due_ms += LOOK_MS


class World:
    """A market, and nodes whose owners live their story."""

    def __init__(self, owners: list[Machine], seconds: float) -> None:
        self.spans: list[Span] = []
        self.net = Net(SEED, lambda _: None)
        self.key = SigningKey(bytes(32))
        self.market = MemoryMarketStore()
        self.database = FaultyDatabase()
        self._owners = owners
        self._seconds = seconds
        self._core = sim_core.Core(
            "core",
            self.net,
            lambda _: None,
            seed=SEED,
            truth=sim_core.Truth(
                database=self.database,
                ingest=MemoryIngestStore(),
                registry=MemoryRegistryStore(),
                market=self.market,
                checks=MemoryCheckStore(),
                decisions=MemoryDecisionStore(),
                budgets=MemoryBudgetStore(),
                ledger=MemoryLedger(),
                key=self.key,
            ),
            after_round=lambda _: None,
        )
        self._ground = Ground(sim_core.NET, "", bytes(self.key.verify_key))
        self._offers = 0

    async def live(self) -> list[Lease]:
        """From the first order until all that began in time has ended; returns the leases that were paid."""
        async with asyncio.TaskGroup() as group:
            self._core.start(group)
            await asyncio.sleep(2)
            operator = self.net.party("operator")
            orders = await self._order(operator)
            token = await call(
                operator, calls.keys.CREATE_TOKEN, calls.keys.CreateToken(uses=len(self._owners)), calls.keys.Secret
            )
            started = asyncio.get_running_loop().time()
            owners = [
                group.create_task(self._own(f"node{number}", machine, token.secret, started))
                for number, machine in enumerate(self._owners)
            ]
            await asyncio.wait(owners)
            paid = await self._paid(orders)
            await self._core.kill()
        self.spans = [span._replace(start=span.start - started, end=span.end - started) for span in self.spans]
        return paid

    async def _order(self, bus: Any) -> list[str]:  # noqa: ANN401 - a party's bus
        account = (await call(bus, calls.keys.CREATE_KEY, calls.keys.CreateKey(), calls.keys.Secret)).account
        await call(
            bus, calls.money.GRANT, calls.money.Grant(id=fresh_id(), account=account, amount_microusd=10**6 * USD), dict
        )
        cores = sum(machine.cores for machine in self._owners)
        count = -(-int(cores * self._seconds * 2 / SHORTEST_S / 3) // ITEMS_A_JOB)
        draw, orders = random.Random(SEED), list[str]()  # noqa: S311 - a reproducible draw
        for _ in range(count):
            order = Order(
                id=draw.randbytes(16).hex(),
                vertical="compute",
                work={"compares": False},
                items=[draw.randbytes(32).hex() for _ in range(ITEMS_A_JOB)],
                requirements=Requirements(cpu_milli=1000, memory_mib=1, disk_mib=0),
                time_limit_s=2 * LONGEST_S,
            )
            await call(bus, calls.jobs.SUBMIT, calls.jobs.Submit(account=account, order=order), JobView)
            orders.append(order.id)
        return orders

    async def _own(self, name: str, machine: Machine, token: str, started: float) -> None:
        """Live an owner's story: his node serves while the machine is on."""
        loop = asyncio.get_running_loop()
        spec = await joined(self.net.party(name), token, random.Random(name).randbytes(32), self._made(machine.cores))  # noqa: S311
        node, serving, boot = None, None, 0
        for change in (*machine.changes, Change(self._seconds + LONGEST_S, None)):
            await asyncio.sleep(max(0.0, started + change.at - loop.time()))
            if change.cores is None:
                if node is not None and serving is not None:
                    self._note(node, loop.time())
                    serving.cancel()
                    await asyncio.wait([serving])
                node, serving = None, None
            elif node is None:
                boot += 1
                node = self._node(spec, change.cores, boot)
                serving = asyncio.ensure_future(self._serve(node, name))  # noqa: TID251 - cancelled above
            else:
                node.reclaim(self._made(change.cores))

    def _node(self, spec: Spec, cores: int, boot: int) -> Node:
        spec = spec._replace(made=self._made(cores))
        return Node(self._ground, spec, takes_s, boot=boot, clock=sim_loop.SimClock())

    async def _serve(self, node: Node, name: str) -> None:
        party = self.net.party(name)
        try:
            await node.offer(party)
            await node.serve(party)
        finally:
            party.dead = True

    def _made(self, cores: int) -> OfferMade:
        self._offers += 1
        return OfferMade(
            offer=self._offers,
            open=True,
            total=Resources(cpu_milli=1000 * cores, memory_mib=4096),
            terms=Terms(price_microusd_per_core_hour=USD),
        )

    def _note(self, node: Node, now: float) -> None:
        """Keep when it worked on what; what it still did is lost with it."""
        for lease, work in node.works.items():
            ended = now if work.ended_ms is None else work.ended_ms / 1000
            self.spans.append(Span(lease, work.began_ms / 1000, ended, takes_s(work.held.proposal)))

    async def _paid(self, orders: list[str]) -> list[Lease]:
        async with self.database.transaction() as tx:
            leases = [lease for order in orders for lease in await self.market.leases(tx, order, 0, LEASES_MAX)]
        return [lease for lease in leases if lease.ok and lease.owed_microusd]


def takes_s(proposal: calls.leases.Proposal) -> float:
    """How long an item takes: its hash says it, on every node alike."""
    assert proposal.item is not None
    return SHORTEST_S + int(proposal.item[:8], 16) % (LONGEST_S - SHORTEST_S)


def overlap_s(span: Span, seconds: float) -> float:
    """What of it lies within the time that counts."""
    return max(0.0, min(span.end, seconds) - max(span.start, 0.0))


def useful_by_length(spans: list[Span], paid: set[str], seconds: float) -> dict[str, float]:
    """By how long items take: the part of what was busy with them that was paid."""
    found = {}
    for shortest, longest in pairwise(LENGTHS_S):
        some = [span for span in spans if shortest <= span.takes < longest]
        busy = sum(overlap_s(span, seconds) for span in some)
        useful = sum(overlap_s(span, seconds) for span in some if span.lease in paid)
        found[f"{shortest // 60} to {longest // 60} min"] = round(useful / busy, 4) if busy else 0.0
    return found


def main() -> int:
    """Measure, print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machines", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=SEED, help="of what owners do")
    options = parser.parse_args()
    seconds = 60 * options.minutes
    draw = random.Random(options.seed)  # noqa: S311 - a reproducible draw
    pods, source = read_pods(draw)
    owners = machines(options.machines, seconds, pods, draw)
    # A window as long as in production, and a loop that lives as long as this takes.
    sim_core.WINDOW_MS = 3_600_000
    sim_loop.LIFE_S = 2 * seconds + 10_000
    began = time.monotonic()
    world = World(owners, seconds)
    loop = TimedLoop(SEED)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        paid = {lease.id.hex() for lease in runner.run(world.live())}
    left = sum(machine.free_core_s(0, seconds) for machine in owners)
    oracle = sum(machine.oracle_core_s(0, seconds, SHORTEST_S) for machine in owners)
    busy = sum(overlap_s(span, seconds) for span in world.spans)
    useful = sum(overlap_s(span, seconds) for span in world.spans if span.lease in paid)
    kept = 1 - left / (seconds * sum(machine.cores for machine in owners))
    used = sum(machine.used for machine in owners) / len(owners)
    changes = sum(len(machine.changes) for machine in owners)
    off = sum(change.cores is None for machine in owners for change in machine.changes)
    print(
        f"{options.machines} machines, {options.minutes:g} minutes of virtual time in {time.monotonic() - began:.0f} s"
    )
    print(f"owners' load: {source}; they use {used:.0%} and keep {kept:.0%} (whole cores, off times)")
    print(f"{changes} changes of what is left, {off} of them a machine that is switched off")
    print(f"{len(world.spans)} leases, {len(paid)} of them finished and paid")
    print(f"of what owners left: busy {busy / left:.1%}, useful {useful / left:.1%}, the oracle {oracle / left:.1%}")
    lengths = useful_by_length(world.spans, paid, seconds)
    print(
        "of what was busy, useful by how long an item takes: " + ", ".join(f"{k}: {v:.1%}" for k, v in lengths.items())
    )
    lag = lag_result("utilisation", round(statistics.quantiles(loop.late_ms, n=100)[98]))
    result = {
        "name": "utilisation",
        "value": round(useful / left, 4),
        "unit": "useful part of what owners left",
        "sold": round(busy / left, 4),
        "useful_of_busy": lengths,
        "baseline": round(oracle / left, 4),
        "baseline_name": "an oracle that knows what owners will do",
        "ratio": round(useful / oracle, 4),
        "goal": GOAL,
        "ok": useful >= GOAL * oracle,
    }
    print(json.dumps([result, lag]))
    return 0 if result["ok"] and lag["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
