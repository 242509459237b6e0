"""A provider's machine: the production agent on a folder that outlives it, with a worker that takes virtual time."""

# ruff: noqa: D102

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from fallow.agent.home import Home, Settings, State
from fallow.agent.identity import NodeKey
from fallow.agent.outbox import Outbox
from fallow.agent.outbox_store import OutboxStore
from fallow.agent.service import Agent, Ports
from fallow.domain import calls
from fallow.domain.records import SALT_BYTES
from fallow.domain.resources import Resources, Terms
from fallow.domain.views import NetworkView
from fallow.ports.vertical import Assignment, Finished, Probe
from tests.sim.core import NET, Process
from tests.sim.loop import SimClock
from tests.sim.net import Net

TOTAL = Resources(cpu_milli=2000, memory_mib=1024, disk_mib=1024)


def truth_of(seed: bytes) -> str:
    """What an item really gives."""
    return hashlib.sha256(b"truth" + seed).hexdigest()


class SimWorker:
    """Works for a while. `lies` and `breaks` are chances; an item's program may fail by itself, everywhere alike."""

    def __init__(self, chance: random.Random, *, lies: float) -> None:
        self.lies = lies
        self.breaks = 0.0
        self.running: dict[str, Resources] = {}
        self.oversold = False
        self._chance = chance

    async def probe(self) -> Probe:
        return Probe({"compute.wasm": "wasi-p1"}, {})

    async def run(self, assignment: Assignment) -> Finished:
        lease = assignment.workspace.name
        self.running[lease] = assignment.resources
        used = sum(resources.cpu_milli for resources in self.running.values())
        self.oversold |= used > TOTAL.cpu_milli
        try:
            return await self._work(assignment)
        finally:
            del self.running[lease]

    async def _work(self, assignment: Assignment) -> Finished:
        chance = self._chance
        await asyncio.sleep(0.1 * chance.random())
        if chance.random() < self.breaks:
            raise RuntimeError("the worker broke")
        assignment.started.set()
        needed_s = chance.choice((0.3, 3.0, 3.0, 12.0, 25.0)) * (0.5 + chance.random() / 2)
        began = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(needed_s):
                await assignment.cancel.wait()
        except TimeoutError:
            return self._result(assignment, int(needed_s * 1000))
        spent_s = asyncio.get_running_loop().time() - began
        return Finished(False, "cancelled", "nobody", int(spent_s * 1000), None, {})

    def _result(self, assignment: Assignment, used_ms: int) -> Finished:
        if self._chance.random() < self.lies:
            return Finished(True, "", "nobody", used_ms, self._chance.randbytes(32).hex(), {})
        if assignment.seed[0] < 12:
            return Finished(False, "program.failed", "buyer", used_ms, None, {})
        return Finished(True, "", "nobody", used_ms, truth_of(assignment.seed), {"fuel": 7})


class Machine(Process):
    """One node. What is in its folder survives a crash, as what was committed there does on a disk."""

    def __init__(
        self,
        name: str,
        net: Net,
        note: Callable[[str], None],
        *,
        seed: int,
        folder: Path,
        network_key: str,
        lies: float,
    ) -> None:
        super().__init__(name, net, note)
        self.home = Home(folder / name)
        self.agent: Agent | None = None
        self.outbox: Outbox | None = None
        self._chance = random.Random(f"{seed}/{name}")
        self.key = NodeKey(self._chance.randbytes(32))
        self.worker = SimWorker(random.Random(f"{seed}/{name}/work"), lies=lies)
        self.clock = SimClock(self._chance.randrange(-2000, 2000))
        self._network = NetworkView(net=NET, public_key=network_key, bus_url="-", preset="lab", version="1")

    def join_request(self, token: str) -> calls.Join:
        proof = self.key.sign(calls.join_message(token, self.key.text)).hex()
        return calls.Join(token=token, node=self.key.text, proof=proof, label=self.name)

    def joined(self, answer: calls.Joined) -> None:
        price = 100_000 + self._chance.randrange(900_000)
        self.home.save(
            State(
                url="-",
                network=self._network,
                account=answer.account,
                account_signature=answer.account_signature,
                settings=Settings(
                    total=TOTAL,
                    terms=Terms(price_microusd_per_core_hour=price),
                    label=self.name,
                    spot=Terms(price_microusd_per_core_hour=price // 2),
                ),
            )
        )

    async def life(self) -> None:
        boot = self.home.next_boot()
        store = OutboxStore(
            self.home.outbox(NET),
            net=NET,
            key=self.key,
            boot=boot,
            next_boot=self.home.next_boot,
            new_salt=lambda: self._chance.randbytes(SALT_BYTES),
        )
        self.outbox = Outbox(store, self.clock, executor=Executor())
        self.home.clear_work()
        workers: Any = {"compute": self.worker}
        ports = Ports(self.bus, self.clock, _no_blobs, workers, random.Random(self._chance.random()))
        self.agent = Agent(self.home, self.home.state(), self.key, self.outbox, ports, {})
        try:
            await self.agent.run()
        finally:
            self.outbox.close()
            self.worker.running.clear()

    async def leave(self) -> None:
        """Stop as the owner does it: politely."""
        assert self.agent is not None
        assert self._task is not None
        self.agent.stop.set()
        await asyncio.wait([self._task])
        self.dead = self.bus.dead = True
        self._note(f"{self.name} has left")


def _no_blobs(_: object) -> Any:
    return None
