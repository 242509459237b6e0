"""A relay, nodes and openers for tests, over links in memory or real WebSockets."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

from nacl.signing import SigningKey

from fallow.adapters.clock import SystemClock
from fallow.adapters.memory.bus import MemoryHub
from fallow.adapters.memory.links import MemoryLink, link_pair
from fallow.adapters.streams.asgi import with_links
from fallow.adapters.streams.dialling import PATH, DialledLink, dial
from fallow.adapters.streams.direct import dial_direct
from fallow.bootstrap.http_server import serving
from fallow.domain import calls
from fallow.domain.errors import Conflict, FallowError
from fallow.domain.streams import Exec, Logs, Opening, StreamTicket
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.dialling import Caller, Dial, DialledSession
from fallow.ports.rpc import serve
from fallow.ports.session import SessionStream
from fallow.ports.streams import Link, Stream
from fallow.services.relay.probing import Probes
from fallow.services.relay.service import Relay

NET = "lab-1"
NETWORK, NODE, OTHER, NEIGHBOUR = (SigningKey(bytes([n]) * 32) for n in (1, 2, 3, 4))
LEASE = bytes(range(16))
ACCOUNT = b"a" * 20


def node_of(key: SigningKey) -> bytes:
    """A node's id."""
    return bytes(key.verify_key)


def opening(signer: SigningKey = NETWORK, want: Logs | Exec | None = None, **changes: object) -> Opening:
    """An opening with a good ticket, but for the `changes`."""
    fields: dict[str, Any] = {"net": NET, "node": node_of(NODE), "lease": LEASE, "account": ACCOUNT, "purpose": "logs"}
    fields |= {"expires_at": 2**53, **changes}
    ticket = StreamTicket(**fields)
    return Opening(ticket.seal(lambda message: signer.sign(message).signature), want or Logs("stdout"))


async def read_all(stream: Stream) -> bytes:
    """Read to the end."""
    pieces = []
    while piece := await stream.read():
        pieces.append(piece)
    return b"".join(pieces)


class Outside:
    """Nodes and openers that dial a relay."""

    def __init__(self, dial: Dial, clock: Clock, group: asyncio.TaskGroup) -> None:
        self.links: list[MemoryLink | DialledLink] = []
        self.served: list[SessionStream] = []
        self.dial = dial
        self.clock = clock
        self._group = group
        self._spawned: list[asyncio.Task[None]] = []
        self._ended = False

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Have something done beside, until the world ends."""
        task = self._group.create_task(work)
        self._spawned.append(task)
        if self._ended:
            task.cancel()
        return task

    def end(self) -> None:
        """End what `spawn` began, or would begin."""
        self._ended = True
        for task in self._spawned:
            task.cancel()

    @asynccontextmanager
    async def session(
        self,
        key: SigningKey,
        *,
        node: bool,
        on_opened: Callable[[SessionStream], None] | None = None,
        net: str = NET,
        session_id: bytes = b"",
    ) -> AsyncIterator[DialledSession]:
        """A session that is held while the context is open."""
        session = DialledSession(
            Caller(net, node_of(key), lambda message: key.sign(message).signature, node),
            self._dialled,
            self.clock,
            random_bytes=(lambda _: session_id) if session_id else os.urandom,
            jitter=random.Random(5),
            on_opened=on_opened or self._refuse,
        )
        holding = self._group.create_task(session.hold())
        try:
            yield session
        finally:
            holding.cancel()
            await asyncio.wait({holding})

    @asynccontextmanager
    async def echoing(self, key: SigningKey = NODE) -> AsyncIterator[DialledSession]:
        """A node that sends back what it gets."""

        def take(stream: SessionStream) -> None:
            self.served.append(stream)
            self._group.create_task(_echo(stream))

        async with self.session(key, node=True, on_opened=take) as session:
            await session.linked.wait()
            yield session

    def cut(self) -> None:
        """Break every link there is, as if a cable were pulled."""
        for link in self.links:
            if isinstance(link, MemoryLink):
                link.cut()
            else:
                link._socket.transport.abort()
        self.links.clear()

    @asynccontextmanager
    async def _dialled(self) -> AsyncIterator[Link]:
        async with self.dial() as link:
            assert isinstance(link, MemoryLink | DialledLink)
            self.links.append(link)
            yield link

    def _refuse(self, stream: SessionStream) -> None:
        stream.reset(Conflict("test.nothing", "Nothing is served here."))


class World(Outside):
    """The same with the relay; `port` is where it serves, if it does."""

    def __init__(
        self, relay: Relay, dial: Dial, clock: Clock, group: asyncio.TaskGroup, bus: Bus, port: int = 0
    ) -> None:
        super().__init__(dial, clock, group)
        self.relay = relay
        self.bus = bus
        self.port = port


@asynccontextmanager
async def world_at(port: int) -> AsyncIterator[Outside]:
    """Dial a relay that another process runs."""
    async with asyncio.TaskGroup() as group:
        yield Outside(lambda: dial(f"http://127.0.0.1:{port}", tls=None), SystemClock(), group)


async def _echo(stream: SessionStream) -> None:
    with suppress(FallowError):
        while piece := await stream.read():
            await stream.write(piece)
        stream.end()


@asynccontextmanager
async def world(kind: str, *, hub: MemoryHub | None = None, clock: Clock | None = None) -> AsyncIterator[World]:
    """A relay reached by `memory` or `websocket` links, on a network where NODE and NEIGHBOUR are enrolled.

    Those that share a `hub` are gateways of one network.
    """
    clock, hub = clock or SystemClock(), hub or MemoryHub()

    async def may_connect(ask: calls.base.NodeRef) -> bool:
        return bytes.fromhex(ask.node) in {node_of(NODE), node_of(NEIGHBOUR)}

    async with AsyncExitStack() as stack:
        relay = Relay(
            net=NET,
            network_key=node_of(NETWORK),
            bus=hub.connect(),
            clock=clock,
            random_bytes=os.urandom,
            dial=lambda url: dial(url, tls=None),
            probes=Probes(NET, clock, network_host="127.0.0.1", dial=dial_direct, random_bytes=os.urandom),
        )
        registry = serve(hub.connect(), calls.nodes.MAY_CONNECT, calls.base.NodeRef, may_connect, queue="registry")
        await stack.enter_async_context(registry)
        if kind == "memory":
            await stack.enter_async_context(relay.running("memory"))
            group = await stack.enter_async_context(asyncio.TaskGroup())
            made = World(relay, lambda: _dialled(relay, group), clock, group, hub.connect())
            stack.callback(made.end)
            yield made
            return
        port = await stack.enter_async_context(serving(with_links(no_app, {PATH: relay.attend}, clock), "127.0.0.1", 0))
        url = f"http://127.0.0.1:{port}"
        await stack.enter_async_context(relay.running(url))
        group = await stack.enter_async_context(asyncio.TaskGroup())
        made = World(relay, lambda: dial(url, tls=None), clock, group, hub.connect(), port)
        stack.callback(made.end)
        yield made


@asynccontextmanager
async def _dialled(relay: Relay, group: asyncio.TaskGroup) -> AsyncIterator[Link]:
    """A link in memory that the relay attends to."""
    near, far = link_pair()

    async def attend() -> None:
        await relay.attend(far, "127.0.0.1")
        far.close()

    attending = group.create_task(attend())
    try:
        yield near
    finally:
        near.cut()
        await asyncio.wait({attending})


async def no_app(*_: object) -> None:
    """What is behind the links: nothing."""
    raise AssertionError("only links are served here")
