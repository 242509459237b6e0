"""Storage's worker on a folder, and a client that speaks with it over streams in memory, honestly or not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from blake3 import blake3
from nacl.signing import SigningKey

from fallow.adapters.memory.links import link_pair
from fallow.domain.errors import FallowError, Unavailable
from fallow.domain.records import Body
from fallow.domain.streams import Opening, Service
from fallow.ports.clock import Clock
from fallow.ports.session import Session, SessionStream
from fallow.ports.streams import Stream
from fallow.ports.vertical.worker import WorkerGround
from fallow.verticals.storage.core import wire
from fallow.verticals.storage.core.facts import StorageServed
from fallow.verticals.storage.core.orders import ORDER_BYTES, Order, OrderLimit, PieceClaim, PieceReceipt
from fallow.verticals.storage.core.serving import Frames
from fallow.verticals.storage.worker.worker import StorageWorker
from tests.streams_world import NET, NETWORK, NODE, node_of
from tests.unit.agent_fakes import FakeClock, Inline

CLIENT, STRANGER = (SigningKey(bytes([n]) * 32) for n in (7, 8))
PIECE = b"p" * 32
CHUNK_BYTES = 64 << 10


def sealed(key: SigningKey, signed: Any) -> bytes:
    """Sign something."""
    return signed.seal(lambda message: key.sign(message).signature)


class Terms(NamedTuple):
    """Order limits for CLIENT at NODE, each with a serial of its own."""

    now_ms: int

    def limit(self, number: int, action: str = "put", **changes: Any) -> OrderLimit:
        """One that is good, but for the changes."""
        fields: dict[str, Any] = {
            "net": NET,
            "serial": number.to_bytes(16),
            "node": node_of(NODE),
            "client": node_of(CLIENT),
            "piece": PIECE,
            "action": action,
            "bytes_max": 1 << 30,
            "made_ms": self.now_ms,
            "expires_ms": self.now_ms + 3_600_000,
        }
        return OrderLimit(**(fields | changes))


class Client:
    """Speaks with a node over streams that `opened` opens with what an opening begins with."""

    def __init__(self, opened: Callable[[bytes], Stream], ticket: bytes = b"") -> None:
        self._opened = opened
        self._ticket = ticket

    def open(self, request: wire.Message | bytes) -> Talk:
        """Begin."""
        data = request if isinstance(request, bytes) else wire.write(request)
        return Talk(self._opened(Opening(self._ticket, Service("storage", data)).write()))

    async def put(
        self,
        limit: OrderLimit,
        data: bytes,
        *,
        length: int | None = None,
        claim: PieceClaim | None = None,
        signer: SigningKey = CLIENT,
        step: int = ORDER_BYTES,
    ) -> PieceReceipt:
        """Bring a piece, and return the node's receipt."""
        talk = self.open(wire.Put(sealed(NETWORK, limit), len(data) if length is None else length))
        assert isinstance(await talk.hear(), wire.Go)
        return await self.send_rest(talk, limit, data, claim=claim, signer=signer, step=step)

    async def send_rest(
        self,
        talk: Talk,
        limit: OrderLimit,
        data: bytes,
        *,
        claim: PieceClaim | None = None,
        signer: SigningKey = CLIENT,
        step: int = ORDER_BYTES,
    ) -> PieceReceipt:
        """Bring the bytes of a piece that the node waits for."""
        for at in range(0, len(data), CHUNK_BYTES):
            part = data[at : at + CHUNK_BYTES]
            if at % step == 0 and at:
                await talk.pay(limit, at + len(part), signer)
            await talk.send(part)
        said = claim or claim_of(data, limit.piece)
        await talk.say(wire.Done(sealed(signer, said), order(limit, len(data), signer)))
        stored = await talk.hear()
        assert isinstance(stored, wire.Stored)
        talk.stream.end()
        return PieceReceipt.open(stored.receipt, node_of(NODE))

    async def get(self, limit: OrderLimit, start: int, stop: int) -> bytes:
        """Read bytes of a piece, paying for what has come."""
        talk = self.open(wire.Get(sealed(NETWORK, limit), start, stop))
        came, paid = bytearray(), 0
        while not isinstance(item := await talk.next(), wire.Sent):
            if isinstance(item, memoryview):
                came += item
                due = len(came)
                if due - paid >= ORDER_BYTES or paid < due == stop - start:
                    paid = due
                    await talk.pay(limit, due)
        talk.stream.end()
        return bytes(came)


class Talk:
    """A stream to a node, in messages."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._frames = Frames()
        self._items: list[wire.Any_ | memoryview] = []

    async def say(self, message: wire.Message) -> None:
        """Send a message."""
        await self.stream.write(wire.frame(message))

    async def send(self, data: bytes) -> None:
        """Send bytes of the piece."""
        await self.stream.write(wire.frame(wire.Data(len(data))) + data)

    async def pay(self, limit: OrderLimit, bytes_all: int, signer: SigningKey = CLIENT) -> None:
        """Order so much in all."""
        await self.say(wire.Pay(order(limit, bytes_all, signer)))

    async def next(self) -> wire.Any_ | memoryview:
        """What comes next: a message, or raw bytes."""
        while not self._items:
            data = await self.stream.read()
            if not data:
                raise Unavailable("test.ended", "The node ended.")
            self._items = self._frames.feed(data)
        return self._items.pop(0)

    async def hear(self) -> wire.Any_:
        """The next message."""
        item = await self.next()
        assert not isinstance(item, memoryview)
        return item


def order(limit: OrderLimit, bytes_all: int, signer: SigningKey = CLIENT) -> bytes:
    """A sealed order."""
    return sealed(signer, Order(serial=limit.serial, bytes_all=bytes_all))


def claim_of(data: bytes, piece: bytes = PIECE) -> PieceClaim:
    """What an honest client says of a piece."""
    return PieceClaim(net=NET, piece=piece, length=len(data), hash=blake3(data).digest())


class Node:
    """The worker, its folder, and what it was served with. `closed` is why its owner wants nothing new."""

    def __init__(self, folder: Path, clock: Clock, size: str = "64MiB") -> None:
        self.folder = folder / "lent"
        self.closed: list[str] = []
        self.said: list[StorageServed] = []
        self.errors: list[FallowError] = []
        self.clock = clock
        self.ground = WorkerGround(
            cache=folder / "cache",
            kept=folder / "kept",
            clock=clock,
            net=NET,
            node=node_of(NODE),
            sign=lambda message: NODE.sign(message).signature,
            network_key=node_of(NETWORK),
            lends=f"{self.folder}:{size}",
            closed=lambda: self.closed,
        )
        self.worker = StorageWorker(self.ground)
        self.missing: dict[str, str] = {}

    @property
    def terms(self) -> Terms:
        """Limits as the network signs them now."""
        return Terms(self.clock.now_ms())

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Client]:
        """Open the folder, and serve a client. On a clock that stands all is done in step, without threads."""
        if isinstance(self.clock, FakeClock):
            asyncio.get_running_loop().set_default_executor(Inline())
        self.worker = StorageWorker(self.ground)
        self.missing = dict((await self.worker.probe()).missing)
        near, far = link_pair()
        try:
            async with asyncio.timeout(120), asyncio.TaskGroup() as group:
                client = Session(dialled=True, on_opened=lambda _: None)
                side = Session(dialled=False, on_opened=lambda stream: _keep(group, self._serve(stream)))
                tasks = [
                    group.create_task(client.drive(near)),
                    group.create_task(side.drive(far)),
                    group.create_task(self.worker.report(self._say)),
                ]
                yield Client(client.open)
                for task in tasks:
                    task.cancel()
                client.close(Unavailable("test.over", "The test is over."))
                side.close(Unavailable("test.over", "The test is over."))
        finally:
            self.worker.close()

    async def _serve(self, stream: SessionStream) -> None:
        opening = msgspec.msgpack.decode(stream.opening, type=Opening)
        assert isinstance(opening.want, Service)
        try:
            await self.worker.serve(stream, opening.want.request, node_of(CLIENT))
        except FallowError as error:
            self.errors.append(error)
            stream.reset(error)

    async def _say(self, body: Body) -> None:
        assert isinstance(body, StorageServed)
        self.said.append(body)

    def ordered(self) -> dict[bytes, int]:
        """What was handed in: bytes by serial."""
        return {
            OrderLimit.open(limit, node_of(NETWORK)).serial: Order.open(said, node_of(CLIENT)).bytes_all
            for body in self.said
            for limit, said in body.served
        }


def _keep(group: asyncio.TaskGroup, work: Any) -> None:
    group.create_task(work)


@asynccontextmanager
async def node(folder: Path, **options: Any) -> AsyncIterator[tuple[Node, Client]]:
    """A node with a client, on a clock that stands."""
    made = Node(folder, FakeClock(), **options)
    async with made.running() as client:
        yield made, client
