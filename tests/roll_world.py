"""Roll calls in virtual time: the market's side and the nodes' side as they are, on machines that can be shared.

A machine has so many cores; nodes that work on it at the same moment have their part of it. `noise` is how often
something else slows a node down while it works, by any amount up to nine tenths.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar, cast

from fallow.adapters.memory.bus import MemoryHub
from fallow.adapters.memory.checks import MemoryCheckStore
from fallow.adapters.memory.database import MemoryDatabase
from fallow.adapters.memory.decisions import MemoryDecisionStore
from fallow.agent.book import Book
from fallow.agent.identity import NodeKey
from fallow.agent.leases import Leases
from fallow.agent.rolls import Rolls
from fallow.domain.draws import Seed
from fallow.domain.errors import Unavailable
from fallow.domain.facts import OfferMade
from fallow.domain.fees import Fees
from fallow.domain.offers import Offer
from fallow.domain.resources import Resources, Terms
from fallow.domain.rollcall import Call
from fallow.domain.verification import Standing
from fallow.ports.checks import SeedRow
from fallow.ports.vertical.capacity import Capacity, Effort, Exercise
from fallow.ports.vertical.plugin import Vertical
from fallow.ports.vertical.worker import Worker
from fallow.services.market.brain import Brain
from fallow.services.market.inputs import Input
from fallow.services.market.rollcalls import RollCalls
from fallow.services.market.rounds import Rounds
from tests.sim.core import SimCapacity, SimEffort
from tests.sim.loop import SimClock, SimLoop

NET = "sim"
SLICES = 8
ALWAYS_MS = 1 << 60
T = TypeVar("T")

Closed = Callable[["Node"], str]
"""Why a node does not answer now; empty: it does."""


def willing(_: Node) -> str:
    """Answer each call."""
    return ""


class Machine:
    """What nodes run on; `working` are those that work just now, with the cores that each of them uses."""

    def __init__(self, cores: int) -> None:
        self.cpu_milli = cores * 1000
        self.working: dict[bytes, int] = {}

    def share(self) -> float:
        """What each of those who work now has of what it wants."""
        return min(1.0, self.cpu_milli / sum(self.working.values()))


class Node:
    """A node that offers `cores` of a machine. `asked` counts its calls, `siblings` are those on the same machine."""

    def __init__(self, world: RollWorld, name: str, machine: Machine, cores: int, closed: Closed, noise: float) -> None:
        self.key = NodeKey(random.Random(name).randbytes(32))
        self.id = bytes(self.key.node)
        self.machine = machine
        self.noise = noise
        self.asked = 0
        self.leases = Leases(Book(Resources(cpu_milli=cores * 1000, memory_mib=1024)), ["compute"])
        self._chance = random.Random(f"{world.seed}/{name}")
        self.rolls = Rolls(
            self.leases, {"compute": cast("Worker", self)}, net=NET, key=self.key, closed=lambda: self._why(closed)
        )

    def _why(self, closed: Closed) -> str:
        self.asked += 1
        return closed(self)

    async def exert(self, exercise: Exercise) -> Effort:
        """Do as many units as there are thousandths of a core, if nothing is in the way."""
        slowed = self._chance.uniform(0.1, 1) if self._chance.random() < self.noise else self._chance.uniform(0.95, 1)
        self.machine.working[self.id] = exercise.cpu_milli
        done = 0.0
        try:
            for _ in range(SLICES):
                await asyncio.sleep(exercise.work_ms / 1000 / SLICES)
                done += self.machine.share() * slowed * exercise.cpu_milli / SLICES
                if exercise.cancel.is_set():
                    raise Unavailable("node.worker_stopped", "It was ended.")
        finally:
            del self.machine.working[self.id]
        return SimEffort(exercise.challenge, exercise.node, int(done))


class _Vertical:
    name = "compute"

    def __init__(self, capacity: Capacity) -> None:
        self.capacity = capacity


class _Rounds:
    """A market whose every input is applied at once."""

    def __init__(self, brain: Brain, clock: SimClock) -> None:
        self.brain = brain
        self._clock = clock

    async def ask(self, what: Input) -> None:
        what(self.brain, self._clock.now_ms())


class RollWorld:
    """A network with nodes, on the running loop."""

    def __init__(self, seed: int, *, calls_a_day: int = 17_280, capacity: Capacity | None = None) -> None:
        self.seed = seed
        self.hub = MemoryHub()
        self.clock = SimClock()
        self.database = MemoryDatabase()
        self.store, self.decisions = MemoryCheckStore(), MemoryDecisionStore()
        self.drawn_from = Seed(1, random.Random(seed).randbytes(32))
        self.brain = Brain(Fees(), self.drawn_from)
        self.nodes: list[Node] = []
        self.capacity = capacity or SimCapacity()
        self.roll_calls = RollCalls(
            net=NET,
            calls_a_day=calls_a_day,
            rounds=cast("Rounds", _Rounds(self.brain, self.clock)),
            verticals={"compute": cast("Vertical", _Vertical(self.capacity))},
            bus=self.hub.connect(),
            clock=self.clock,
            database=self.database,
            store=self.store,
            decisions=self.decisions,
        )

    def add(self, name: str, machine: Machine, cores: int, *, closed: Closed = willing, noise: float = 0.0) -> Node:
        """A node with an account and a line of its own."""
        node = Node(self, name, machine, cores, closed, noise)
        made = OfferMade(
            offer=1,
            open=True,
            total=Resources(cpu_milli=cores * 1000, memory_mib=1024),
            terms=Terms(price_microusd_per_core_hour=1),
        )
        account = node.id[:20]
        self.brain.offer(Offer(node=node.id, account=account, boot=1, made=made), self.clock.now_ms())
        slot = self.brain.floor.slots[node.id]
        slot._life = slot.life._replace(seen_at=ALWAYS_MS)
        self.nodes.append(node)
        return node

    async def live(self, seconds: float) -> None:
        """Let so much time go by."""
        async with self.database.transaction() as tx:
            await self.store.put_seed(tx, SeedRow(1, b"", 1, None))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(node.rolls.run(self.hub.connect(), self.clock)) for node in self.nodes]
            tasks.append(group.create_task(self.roll_calls.run()))
            await asyncio.sleep(seconds)
            for task in tasks:
                task.cancel()

    async def calls(self, kind: str = "") -> list[Call]:
        """What was called, the latest first."""
        async with self.database.transaction() as tx:
            found = await self.store.calls(tx, 100_000, found=False)
        return [call for call in found if kind in {"", call.kind}]

    def standing(self, node: Node) -> Standing:
        """What a node has shown."""
        return self.brain.judging.standing(node.id)

    def found(self, nodes: Sequence[Node]) -> int:
        """How many of them were convicted."""
        return sum(self.standing(node).wrong > 0 for node in nodes)


def played(seed: int, story: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a story in virtual time."""
    loop = SimLoop(seed)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        told = runner.run(story())
    assert not loop.trouble, loop.trouble
    return told
