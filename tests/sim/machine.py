"""A provider's machine: the production agent on a folder that outlives it, with a worker that takes virtual time."""

# ruff: noqa: D102, ASYNC240 - a disk that takes no time

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from pathlib import Path
from typing import Any

from fallow.agent.home import Home, Settings, State
from fallow.agent.identity import NodeKey
from fallow.agent.outbox import Outbox
from fallow.agent.outbox_store import OutboxStore
from fallow.agent.service import Agent, Ports
from fallow.domain import calls
from fallow.domain.calls.leases import Proposal
from fallow.domain.errors import FallowError, Unavailable
from fallow.domain.records import SALT_BYTES
from fallow.domain.resources import Resources, Terms
from fallow.domain.views.network import NetworkView
from fallow.ports.vertical.capacity import Exercise
from fallow.ports.vertical.work import Assignment, Finished, LeaseBlobs
from fallow.ports.vertical.worker import Probe, Worker
from tests.sim.core import NET, Process, SimEffort
from tests.sim.loop import SimClock
from tests.sim.net import Net

CHECKPOINT_MS = 2_000
TOTAL = Resources(cpu_milli=2000, memory_mib=1024, disk_mib=1024)


def truth_of(seed: bytes) -> str:
    """What an item really gives."""
    return hashlib.sha256(_content(seed)).hexdigest()


def needed_ms(seed: bytes) -> int:
    """How long an item's program runs, on every machine alike."""
    return (300, 3_000, 3_000, 12_000, 25_000)[seed[1] % 5] * (128 + seed[2] // 2) // 255


class Blobs:
    """The network's store of blobs; `away` while it cannot be reached."""

    def __init__(self) -> None:
        self.away = False
        self._kept: dict[str, bytes] = {}

    async def fetch(self, sha256: str, to: Path) -> None:
        self._reach()
        to.write_bytes(self._kept[sha256])

    async def store(self, path: Path) -> str:
        await asyncio.sleep(0)
        self._reach()
        data = path.read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        self._kept[sha256] = data
        return sha256

    def _reach(self) -> None:
        if self.away:
            raise Unavailable("sim.blobs_away", "The blobs are away.")


class SimHome(Home):
    """A home on a disk that can be full: then nothing that takes space is written, as sqlite itself finds out."""

    full = False

    def free_mib(self) -> int:
        return 0 if self.full else 1 << 20

    def save(self, state: State) -> State:
        self._room()
        return super().save(state)

    def next_boot(self) -> int:
        self._room()
        return super().next_boot()

    def next_offer(self) -> int:
        self._room()
        return super().next_offer()

    def _room(self) -> None:
        if self.full:
            raise Unavailable("agent.disk_full", "The disk is full.")


class SimWorker(Worker):
    """Works for a while. `lies` and `breaks` are chances; an item's program may fail by itself, everywhere alike.

    `betrayed` says that a program did not get the secret values that it was to have.
    """

    def __init__(self, chance: random.Random, *, lies: float) -> None:
        self.lies = lies
        self.breaks = 0.0
        self.running: dict[str, Resources] = {}
        self.oversold = False
        self.betrayed = False
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

    async def exert(self, exercise: Exercise) -> SimEffort:
        """Have as much as was asked for, on a machine of its own."""
        try:
            async with asyncio.timeout(exercise.work_ms / 1000):
                await exercise.cancel.wait()
        except TimeoutError:
            units = exercise.cpu_milli * exercise.work_ms // 1000
            return SimEffort(exercise.challenge, exercise.node, units)
        raise Unavailable("node.worker_stopped", "It was ended.")

    async def _work(self, assignment: Assignment) -> Finished:
        chance = self._chance
        await asyncio.sleep(0.1 * chance.random())
        if chance.random() < self.breaks:
            raise RuntimeError("the worker broke")
        self.betrayed |= dict(assignment.secrets) != assignment.work.get("secrets", {})
        done_ms = 0
        if assignment.resume is not None:
            checkpoint = assignment.workspace / "resume"
            await assignment.blobs.fetch(assignment.resume, checkpoint)
            done_ms = int(checkpoint.read_text())
        assignment.started.set()
        return await self._run(assignment, done_ms)

    async def _run(self, assignment: Assignment, done_ms: int) -> Finished:
        """Go on from what is done already, with a checkpoint now and then."""
        now_ms = SimClock().monotonic_ms
        began = now_ms()
        ends = 1 << 60 if assignment.until_stopped else began + needed_ms(assignment.seed) - done_ms
        while now_ms() < ends and not assignment.cancel.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout((min(ends, now_ms() + CHECKPOINT_MS) - now_ms()) / 1000):
                    await assignment.cancel.wait()
            if assignment.save is not None and now_ms() < ends and self._chance.random() < 0.7:
                checkpoint = assignment.workspace / "checkpoint"
                ran_ms = now_ms() - began
                checkpoint.write_text(str(done_ms + ran_ms))
                with suppress(FallowError):
                    await assignment.save(checkpoint, ran_ms)
        if now_ms() < ends and not assignment.until_stopped:
            return Finished(False, "cancelled", "nobody", now_ms() - began, None, {})
        return await self._result(assignment, min(now_ms(), ends) - began)

    async def _result(self, assignment: Assignment, used_ms: int) -> Finished:
        if self._chance.random() < self.lies:
            return Finished(True, "", "nobody", used_ms, self._chance.randbytes(32).hex(), {})
        if assignment.seed[0] < 12:
            return Finished(False, "program.failed", "buyer", used_ms, None, {})
        result = assignment.workspace / "result"
        result.write_bytes(_content(assignment.seed))
        return Finished(True, "", "nobody", used_ms, await assignment.blobs.store(result), {"fuel": 7})


def _content(seed: bytes) -> bytes:
    return b"truth" + seed


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
        blobs: Blobs,
    ) -> None:
        self._chance = random.Random(f"{seed}/{name}")
        super().__init__(name, net, note, SimClock(self._chance.randrange(-2000, 2000)))
        self.home = SimHome(folder / name)
        self.account = ""
        self.agent: Agent | None = None
        self.outbox: Outbox | None = None
        self.key = NodeKey(self._chance.randbytes(32))
        self.worker = SimWorker(random.Random(f"{seed}/{name}/work"), lies=lies)
        self._blobs = blobs
        self._store: OutboxStore | None = None
        self._network = NetworkView(net=NET, public_key=network_key, bus_url="-", preset="lab", version="1")

    def join_request(self, token: str) -> calls.nodes.Join:
        proof = self.key.sign(calls.nodes.join_message(token, self.key.text)).hex()
        return calls.nodes.Join(token=token, node=self.key.text, proof=proof, label=self.name)

    def joined(self, answer: calls.nodes.Joined) -> None:
        self.account = answer.account
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
        store = self._store = OutboxStore(
            self.home.outbox(NET),
            net=NET,
            key=self.key,
            boot=boot,
            next_boot=self.home.next_boot,
            new_salt=lambda: self._chance.randbytes(SALT_BYTES),
        )
        self.outbox = Outbox(store, self.clock, executor=Executor())
        self.fill_disk(full=self.home.full)
        self.home.clear_work()
        workers: Any = {"compute": self.worker}
        ports = Ports(self.bus, self.clock, self._open_blobs, workers, random.Random(self._chance.random()))
        self.agent = Agent(self.home, self.home.state(), self.key, self.outbox, ports, {})
        try:
            await self.agent.run()
        finally:
            self.outbox.close()
            self._store = None
            self.worker.running.clear()

    def fill_disk(self, *, full: bool) -> None:
        """Leave no room for another page of the outbox, and none for anything else; or empty the disk again."""
        self.home.full = full
        if self._store is not None:
            self._store._db.execute(f"pragma max_page_count = {1 if full else 1 << 30}")

    def _open_blobs(self, _: Proposal) -> LeaseBlobs:
        return self._blobs

    async def leave(self) -> None:
        """Stop as the owner does it: politely."""
        assert self.agent is not None
        assert self._task is not None
        self.agent.stop.set()
        await asyncio.wait([self._task])
        self.dead = self.bus.dead = True
        self._note(f"{self.name} has left")
