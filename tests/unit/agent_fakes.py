# ruff: noqa: ASYNC240, D102
"""A network, a clock and a worker for tests of the agent: one loop, no threads, no waiting."""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import itertools
import random
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from nacl.signing import SigningKey

from fallow.adapters.memory.bus import MemoryHub
from fallow.agent.home import Home, Settings, State
from fallow.agent.identity import NodeKey
from fallow.agent.outbox import Outbox
from fallow.agent.outbox_store import OutboxStore
from fallow.agent.owner import Owner
from fallow.agent.service import Agent, Ports
from fallow.domain import calls
from fallow.domain.batches import Promise, open_batch
from fallow.domain.errors import FallowError, Unavailable
from fallow.domain.records import Body, Record, check_openings
from fallow.domain.resources import Resources, Terms
from fallow.domain.views.network import NetworkView
from fallow.ports import rpc
from fallow.ports.vertical.capacity import Exercise
from fallow.ports.vertical.work import Assignment, Finished, LeaseBlobs
from fallow.ports.vertical.worker import Probe, Say, Worker

NET = "lab-1"
ROUNDS_MAX = 2000


class Inline(ThreadPoolExecutor):
    """An executor without threads: the loop stays in step."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - handed on
            done.set_exception(error)
        return done


class FakeClock:
    """Time stands still until `advance`."""

    def __init__(self) -> None:
        self.ms = 1_700_000_000_000
        self._sleeping: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def now_ms(self) -> int:
        return self.ms

    def monotonic_ms(self) -> int:
        return self.ms

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleeping, (self.ms + round(seconds * 1000), next(self._order), woken))
        await woken

    async def advance(self, seconds: float) -> None:
        """Let so much time go by, and everybody do what they do in it."""
        ends = self.ms + round(seconds * 1000)
        await settle()
        while self._sleeping and self._sleeping[0][0] <= ends:
            at, _, woken = heapq.heappop(self._sleeping)
            self.ms = max(self.ms, at)
            if not woken.done():
                woken.set_result(None)
                await settle()
        self.ms = ends
        await settle()


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(60):
        await asyncio.sleep(0)


async def eventually(holds: Callable[[], bool]) -> None:
    """Let others run until it holds; it must, without time going by."""
    for _ in range(ROUNDS_MAX):
        if holds():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came to hold")


async def _first(event: asyncio.Event, future: asyncio.Future[Any]) -> None:
    """Wait for whichever comes first."""
    async with asyncio.TaskGroup() as group:
        happens: asyncio.Future[Any] = group.create_task(event.wait())
        await asyncio.wait({happens, future}, return_when=asyncio.FIRST_COMPLETED)
        happens.cancel()


class FakeIngest:
    """Takes batches as the real one does, or answers with `refuse`."""

    def __init__(self, hub: MemoryHub, key: SigningKey, node: str) -> None:
        self.records: list[Record] = []
        self.batches: list[bytes] = []
        self.refuse: Callable[[calls.nodes.Deliver], FallowError | None] = lambda _: None
        self._hub = hub
        self._key = key
        self._node = node

    def serving(self) -> Any:
        return rpc.serve(
            self._hub.connect(), calls.nodes.ingest(self._node), calls.nodes.Deliver, self.take, queue="ingest"
        )

    async def take(self, request: calls.nodes.Deliver) -> calls.nodes.Delivered:
        if error := self.refuse(request):
            raise error
        batch = open_batch(request.batch, net=NET)
        for index, record in enumerate(batch.records):
            check_openings(record, request.openings.get(str(index), {}))
        if request.batch not in self.batches:
            self.batches.append(request.batch)
            self.records += batch.records
        return calls.nodes.Delivered(promise=promise_for(request.batch, self._key))

    def bodies(self, kind: str) -> list[dict[str, Any]]:
        return [record.body for record in self.records if record.kind == kind]


def promise_for(data: bytes, key: SigningKey, **changes: Any) -> bytes:
    batch = open_batch(data, net=NET)
    promise = Promise(
        net=NET,
        epoch=1,
        node=batch.node,
        boot=batch.boot,
        seq=batch.seq,
        count=len(batch.records),
        root=batch.root,
        at=1,
    )
    return msgspec.structs.replace(promise, **changes).seal(lambda message: key.sign(message).signature)


class FakeEffort:
    """So many units, each shown as its number."""

    def __init__(self, units: int) -> None:
        self.units = units
        self.commitment = b"bound"

    def show(self, wanted: Sequence[int]) -> bytes:
        return bytes(wanted)


class FakeWorker(Worker):
    """Works until told how it ended, or until cancelled."""

    def __init__(self, clock: FakeClock) -> None:
        self.running: dict[str, Assignment] = {}
        self.broken = False
        self.exerted: asyncio.Future[int]
        self.exercising = False
        self.measured: asyncio.Queue[Body] = asyncio.Queue()
        self._clock = clock
        self._ends: dict[str, asyncio.Future[Finished]] = {}

    async def probe(self) -> Probe:
        return Probe({"compute.wasm": "wasi-p1"}, {"container": "No podman here."})

    async def run(self, assignment: Assignment) -> Finished:
        if self.broken:
            raise RuntimeError("a bug in a plugin")
        lease = assignment.workspace.name
        self.running[lease] = assignment
        self._ends[lease] = asyncio.get_running_loop().create_future()
        assignment.started.set()
        begun_ms = self._clock.ms
        await _first(assignment.cancel, self._ends[lease])
        del self.running[lease]
        if self._ends[lease].done():
            return self._ends[lease].result()
        if assignment.until_stopped:
            return Finished(True, "", "nobody", self._clock.ms - begun_ms, "ab" * 32, {})
        return Finished(False, "cancelled", "nobody", self._clock.ms - begun_ms, None, {})

    async def report(self, say: Say) -> None:
        """Say what the test gives it, one after the other."""
        while True:
            await say(await self.measured.get())

    async def exert(self, exercise: Exercise) -> FakeEffort:
        """Work until told how many units were done, or until cancelled."""
        self.exerted = asyncio.get_running_loop().create_future()
        self.exercising = True
        await _first(exercise.cancel, self.exerted)
        self.exercising = False
        if not self.exerted.done():
            raise Unavailable("node.worker_stopped", "It was ended.")
        return FakeEffort(self.exerted.result())

    def finish(self, lease: str, **changes: Any) -> None:
        finished = Finished(True, "", "nobody", 1234, "ab" * 32, {"fuel": 7})
        self._ends[lease].set_result(finished._replace(**changes))


class MemoryBlobs:
    """`LeaseBlobs` in a dict."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.error: FallowError | None = None
        self.store_error: FallowError | None = None

    def add(self, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        self.blobs[sha256] = data
        return sha256

    async def fetch(self, sha256: str, to: Path) -> None:
        if self.error is not None:
            raise self.error
        to.write_bytes(self.blobs[sha256])

    async def store(self, path: Path) -> str:
        if self.store_error is not None:
            raise self.store_error
        return self.add(path.read_bytes())


class World:
    """A network and one agent's parts; `start` runs the agent."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.hub = MemoryHub()
        self.clock = FakeClock()
        self.worker = FakeWorker(self.clock)
        self.network_key = SigningKey(bytes(32))
        self.home = Home(folder / "home")
        self.key = NodeKey.load_or_create(self.home.key)
        self.ingest = FakeIngest(self.hub, self.network_key, self.key.text)
        self.beats: list[calls.nodes.Beat] = []
        self.blobs = MemoryBlobs()
        self.owner: Owner | None = None
        self.others: dict[str, Worker] = {}
        self.waiting_max: int = settings.pop("waiting_max", 1000)
        self.gpus: tuple[str, ...] = settings.pop("gpus", ())
        self.home.save(
            State(
                url="https://net.example",
                network=NetworkView(
                    net=NET, public_key=bytes(self.network_key.verify_key).hex(), bus_url="-", preset="lab", version="1"
                ),
                account="0x" + "11" * 20,
                account_signature="22" * 65,
                settings=Settings(
                    total=Resources(cpu_milli=2000, memory_mib=2048, disk_mib=1024, gpus=len(self.gpus)),
                    terms=Terms(price_microusd_per_core_hour=1000),
                    label="attic",
                ),
            )
        )
        self.agent: Agent
        self.outbox: Outbox

    @asynccontextmanager
    async def network(self) -> AsyncIterator[None]:
        """The network's side: it takes batches and hears beats."""
        async with (
            self.ingest.serving(),
            self.hub.connect().subscribe(calls.nodes.beats(self.key.text)) as beats,
            asyncio.TaskGroup() as group,
        ):
            hearing = group.create_task(self._hear(beats))
            yield
            hearing.cancel()

    @asynccontextmanager
    async def start(self) -> AsyncIterator[Agent]:
        """Run the agent while the context is open, then stop it politely."""
        asyncio.get_running_loop().set_default_executor(Inline())
        boot = self.home.next_boot()
        store = OutboxStore(self.home.outbox(NET), net=NET, key=self.key, boot=boot, next_boot=self.home.next_boot)
        self.outbox = Outbox(store, self.clock, waiting_max=self.waiting_max, executor=Inline())
        ports = Ports(
            self.hub.connect(),
            self.clock,
            self._blobs,
            {"compute": self.worker, **self.others},
            random.Random(1),
            owner=self.owner,
            gpus=self.gpus,
        )
        self.home.clear_work()
        self.agent = Agent(self.home, self.home.state(), self.key, self.outbox, ports, {"score.cpu": "7"})
        try:
            async with asyncio.TaskGroup() as group:
                running = group.create_task(self.agent.run())
                yield self.agent
                self.agent.stop.set()
                while not running.done():
                    await self.clock.advance(0.5)
        finally:
            self.outbox.close()

    async def propose(self, *proposals: calls.leases.Proposal) -> None:
        await self.hub.connect().publish(calls.leases.proposals(self.key.text), msgspec.msgpack.encode(list(proposals)))
        await settle()

    async def stop_leases(self, *leases: str) -> None:
        await self.hub.connect().publish(calls.leases.stops(self.key.text), msgspec.msgpack.encode(list(leases)))
        await settle()

    def proposal(self, number: int = 1, **changes: Any) -> calls.leases.Proposal:
        proposal = calls.leases.Proposal(
            lease=f"{number:032x}",
            vertical="compute",
            work={},
            item=None,
            seed="00" * 32,
            cpu_milli=1000,
            memory_mib=256,
            disk_mib=64,
            price_microusd_per_hour=1000,
            window_ms=60_000,
            time_limit_s=3600,
            answer_by=self.clock.ms + 5000,
            ticket="",
        )
        return msgspec.structs.replace(proposal, **changes)

    async def _hear(self, beats: Any) -> None:
        async for message in beats:
            self.beats.append(msgspec.msgpack.decode(message.data, type=calls.nodes.Beat))

    def _blobs(self, _: calls.leases.Proposal) -> LeaseBlobs:
        return self.blobs
