"""Nodes without machines: everything that a network sees of an agent, many of them in one process.

Each has its own key, its own connection through the callout, the agent's own rules for taking leases, and sends what it
signs in batches, one after the other, until each has its promise, as the agent's outbox does. What it lacks is a disk
and a sandbox: its work is to wait, and for so long it is paid.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import random
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from multiprocessing.connection import Connection
from typing import NamedTuple, Self

import msgspec

from fallow.adapters.clock import SystemClock
from fallow.adapters.nats.bus import NatsBus, connect_nats
from fallow.adapters.nats.nkeys import KeySigner
from fallow.adapters.nats.permissions import inbox_prefix
from fallow.agent.book import Book
from fallow.agent.identity import NodeKey
from fallow.agent.leases import Decline, Held, Leases, Take
from fallow.agent.service import BEAT_INTERVAL_S
from fallow.domain import calls
from fallow.domain.batches import BATCH_RECORDS_MAX, Promise, seal_batch
from fallow.domain.errors import Unavailable
from fallow.domain.facts import LeaseAccepted, LeaseDeclined, NodeEnrolled, OfferMade
from fallow.domain.identity import address
from fallow.domain.records import SALT_BYTES, Body, Opening, Record, make_record
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.rpc import call
from fallow.ports.vertical.work import Finished
from fallow.sdk.trust import trusting

VERTICAL = "compute"
CONNECTING_MAX = 32
AGAIN_S = 0.5


class Ground(NamedTuple):
    """The network that nodes belong to. `ca_pem` is empty where there is no TLS."""

    net: str
    bus_url: str
    network_key: bytes
    ca_pem: str = ""


class Spec(NamedTuple):
    """One node: the seed of its key, what joining gave it, and what it offers."""

    seed: bytes
    account: str
    account_signature: str
    made: OfferMade


Takes = Callable[[calls.leases.Proposal], float]
"""How many seconds the work of a lease takes."""


class Work:
    """What a node does for a lease, from its accept on; `ended_ms` is None as long as it does."""

    def __init__(self, held: Held, began_ms: int) -> None:
        self.held = held
        self.began_ms = began_ms
        self.ended_ms: int | None = None


class Said(NamedTuple):
    """What a process of nodes tells of itself so far."""

    processor_s: float
    batches: int
    records: int
    accepted: int
    declined: int
    beats: int


async def joined(bus: Bus, token: str, seed: bytes, made: OfferMade) -> Spec:
    """Have a node join through the registry, as the gateway does for it."""
    key = NodeKey(seed)
    proof = key.sign(calls.nodes.join_message(token, key.text)).hex()
    answer = await call(
        bus, calls.nodes.JOIN, calls.nodes.Join(token=token, node=key.text, proof=proof), calls.nodes.Joined
    )
    return Spec(seed, answer.account, answer.account_signature, made)


class Node:
    """One of them. `accepted` and `declined` count proposals, `batches` and `records` what it has a promise for."""

    def __init__(
        self,
        ground: Ground,
        spec: Spec,
        takes_s: Takes,
        *,
        tls: ssl.SSLContext | None = None,
        boot: int = 1,
        clock: Clock | None = None,
    ) -> None:
        self.accepted = self.declined = self.batches = self.records = self.beats = 0
        self.key = NodeKey(spec.seed)
        self.works: dict[str, Work] = {}
        self._ground = ground
        self._spec = spec
        self._takes_s = takes_s
        self._tls = tls
        self._boot = boot
        self._clock: Clock = clock or SystemClock()
        self._leases = Leases(Book(spec.made.total), [VERTICAL])
        self._random = random.Random(spec.seed)  # noqa: S311 - salts of a benchmark
        self._waiting: deque[tuple[Record, dict[str, Opening]]] = deque()
        self._changed = asyncio.Event()
        self._seq = 0

    @property
    def _line(self) -> str:
        """An address of its own on this machine: nodes that are seen on one network do not check each other."""
        first, second = self.key.node[:2]
        return f"127.{first}.{second}.1"

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[NatsBus]:
        """Hold its connection to the bus."""
        async with connect_nats(
            self._ground.bus_url,
            signer=KeySigner(bytes(self.key.node), self.key.sign),
            name="node",
            tls=self._tls,
            inbox_prefix=inbox_prefix(bytes(self.key.node)),
            connect_timeout_s=120.0,
            local_address=self._line,
        ) as bus:
            yield bus

    async def offer(self, bus: Bus) -> None:
        """Hand in its binding to its account, and its offer."""
        binding = NodeEnrolled(
            account=address(self._spec.account),
            account_signature=bytes.fromhex(self._spec.account_signature.removeprefix("0x")),
        )
        self._record(binding, self._spec.made)
        while self._waiting:
            await self._send_surely(bus)

    async def serve(self, bus: Bus) -> None:
        """Hear proposals and stops, work, hand in records, give signs of life, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._hear_proposals(bus))
            group.create_task(self._hear_stops(bus))
            group.create_task(self._hand_in(bus))
            group.create_task(self._beat(bus))

    async def _hear_proposals(self, bus: Bus) -> None:
        async with bus.subscribe(calls.leases.proposals(self.key.text)) as messages:
            async for message in messages:
                for proposal in msgspec.msgpack.decode(message.data, type=list[calls.leases.Proposal]):
                    self._decide(proposal)

    async def _hear_stops(self, bus: Bus) -> None:
        async with bus.subscribe(calls.leases.stops(self.key.text)) as messages:
            async for message in messages:
                for lease in msgspec.msgpack.decode(message.data, type=list[str]):
                    self._leases.stop(lease, "network.stopped", "buyer")

    def _decide(self, proposal: calls.leases.Proposal) -> None:
        match self._leases.decide(proposal, ""):
            case Take(held):
                self.accepted += 1
                self._record(LeaseAccepted(lease=held.id))
                self.works[proposal.lease] = Work(held, self._clock.monotonic_ms())
                asyncio.get_running_loop().call_later(self._takes_s(proposal), self._finish, proposal.lease, True)
            case Decline(reason):
                self.declined += 1
                self._record(LeaseDeclined(lease=bytes.fromhex(proposal.lease), reason=reason))

    def reclaim(self, made: OfferMade) -> None:
        """Offer another amount from now on; leases that no longer fit end at once, as their owner's doing."""
        self._leases.resize(made.total)
        self._record(made)
        for lease in [lease for lease, held in self._leases.held.items() if held.cancel.is_set()]:
            self._finish(lease, False)

    def _finish(self, lease: str, ok: bool) -> None:
        work = self.works[lease]
        if work.ended_ms is not None:
            return
        work.ended_ms = self._clock.monotonic_ms()
        self._leases.free(lease)
        used_ms = max(1, work.ended_ms - work.began_ms)
        finished = Finished(ok, "", "nobody", used_ms, work.held.proposal.seed if ok else None, {})
        self._record(*work.held.final_receipts(finished))
        self._leases.forget(lease)

    def _record(self, *bodies: Body) -> None:
        for body in bodies:
            made = make_record(
                body, net=self._ground.net, node=self.key.node, boot=self._boot, seq=self._seq, at=self._clock.now_ms(),
                new_salt=lambda: self._random.randbytes(SALT_BYTES),
            )  # fmt: skip
            self._waiting.append(made)
            self._seq += 1
        self._changed.set()

    async def _hand_in(self, bus: Bus) -> None:
        while True:
            while self._waiting:
                await self._send_surely(bus)
            self._changed.clear()
            await self._changed.wait()

    async def _send_surely(self, bus: Bus) -> None:
        """Send the next batch until there is a promise for it."""
        count = min(len(self._waiting), BATCH_RECORDS_MAX)
        made = [self._waiting[index] for index in range(count)]
        batch = seal_batch([record for record, _ in made], self.key.sign)
        openings = {str(index): given for index, (_, given) in enumerate(made) if given}
        request = calls.nodes.Deliver(batch=batch, openings=openings)
        answer = await self._delivered(bus, request)
        Promise.open(answer.promise, self._ground.network_key)
        for _ in range(count):
            self._waiting.popleft()
        self.batches += 1
        self.records += count

    async def _delivered(self, bus: Bus, request: calls.nodes.Deliver) -> calls.nodes.Delivered:
        while True:
            try:
                return await call(bus, calls.nodes.ingest(self.key.text), request, calls.nodes.Delivered)
            except Unavailable:
                await self._clock.sleep(AGAIN_S * (1 + self._random.random()))

    async def _beat(self, bus: Bus) -> None:
        await self._clock.sleep(BEAT_INTERVAL_S * self._random.random())  # nodes do not beat in step
        while True:
            beat = calls.nodes.Beat(node=self.key.text, boot=self._boot, leases=sorted(self._leases.held))
            with contextlib.suppress(Unavailable):
                await bus.publish(calls.nodes.beats(self.key.text), msgspec.msgpack.encode(beat))
                self.beats += 1
            await self._clock.sleep(BEAT_INTERVAL_S)


class Crowd:
    """Nodes in a process of their own. Open the context; it serves once `ready` has returned."""

    def __init__(self, ground: Ground, specs: Sequence[Spec], work_s: float) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_main, args=(theirs, ground, list(specs), work_s), daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process.pid is not None
        return self._process.pid

    async def ready(self) -> None:
        """Wait until all of them are connected and on offer."""
        assert await asyncio.to_thread(self._ours.recv) == "ready"

    async def said(self, *, end: bool = False) -> Said:
        """Hear what it did so far; with `end` it ends."""
        self._ours.send("end" if end else "tell")
        said: Said = await asyncio.to_thread(self._ours.recv)
        return said


def _main(pipe: Connection, ground: Ground, specs: list[Spec], work_s: float) -> None:
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(_serve(pipe, ground, specs, work_s))


async def _serve(pipe: Connection, ground: Ground, specs: list[Spec], work_s: float) -> None:
    tls = trusting(ground.ca_pem) if ground.ca_pem else None
    nodes = [Node(ground, spec, lambda _: work_s, tls=tls) for spec in specs]
    connecting = asyncio.Semaphore(CONNECTING_MAX)
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:

        async def begin(node: Node) -> NatsBus:
            async with connecting:
                bus = await stack.enter_async_context(node.connected())
                await node.offer(bus)
                return bus

        buses = [await task for task in [group.create_task(begin(node)) for node in nodes]]
        serving = [group.create_task(node.serve(bus)) for node, bus in zip(nodes, buses, strict=True)]
        pipe.send("ready")
        while await asyncio.to_thread(pipe.recv) != "end":
            pipe.send(_told(nodes))
        for task in serving:
            task.cancel()
        pipe.send(_told(nodes))


def _told(nodes: Sequence[Node]) -> Said:
    return Said(
        time.process_time(),
        sum(node.batches for node in nodes),
        sum(node.records for node in nodes),
        sum(node.accepted for node in nodes),
        sum(node.declined for node in nodes),
        sum(node.beats for node in nodes),
    )
