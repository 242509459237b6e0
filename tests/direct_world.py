"""A node that can be dialled itself, over real TLS, beside the relay of `tests.streams_world`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from nacl.signing import SigningKey

from fallow.adapters.streams.direct import dial_direct, listening
from fallow.adapters.streams.framed import FramedLink
from fallow.agent.direct import Direct
from fallow.agent.door import NodeDoor
from fallow.agent.identity import NodeKey
from fallow.bootstrap.paths import Ends, Paths
from fallow.domain.calls.streams import StreamGrant
from fallow.domain.errors import FallowError
from fallow.domain.streams import DirectAddress, Line, Opening, read_opening
from fallow.ports.session import SessionStream
from fallow.ports.streams import Link
from tests.network import until_async
from tests.streams_world import LEASE, NET, NETWORK, NODE, World, node_of, opening

HOST = "127.0.0.1"


class Machine:
    """A node that sends back what it gets, whichever way it comes. `served` are the streams that were not lines."""

    def __init__(self, net: World, folder: Path, key: SigningKey) -> None:
        self.key = key
        self.served: list[SessionStream] = []
        self.lines = 0
        self.listens = True
        self.direct: Direct | None = None
        self._net = net
        self._folder = folder
        self.door = NodeDoor(
            NET,
            NodeKey(bytes(key)),
            node_of(NETWORK),
            net.clock,
            random_bytes=os.urandom,
            spawn=net.spawn,
            take=self.take_direct,
        )

    def take(self, stream: SessionStream) -> None:
        """Serve a stream that came by the relay."""
        if isinstance(read_opening(stream.opening).want, Line):
            self.lines += 1
            self._net.spawn(self._carry(stream))
        else:
            self.take_direct(stream)

    def take_direct(self, stream: SessionStream) -> None:
        """Serve a stream that came by the door."""
        self.served.append(stream)
        self._net.spawn(_echo(stream))

    @asynccontextmanager
    async def listen(self, attend: Callable[[Link, str], Awaitable[None]]) -> AsyncIterator[tuple[int, str]]:
        """Open the port."""
        async with listening(HOST, 0, node_of(self.key), attend, self._net.clock, self._folder) as found:
            yield found

    async def _carry(self, stream: SessionStream) -> None:
        with suppress(FallowError):
            await self.door.carry(stream)


@asynccontextmanager
async def machine(net: World, folder: Path, key: SigningKey = NODE) -> AsyncIterator[Machine]:
    """A node with a session to the relay, offering its door there, until the context ends."""
    made = Machine(net, folder, key)
    async with net.session(key, node=True, on_opened=made.take) as session:
        await session.linked.wait()
        made.direct = Direct(made.door, session, made.listen, net.clock)
        offering = net.spawn(made.direct.run())
        try:
            yield made
        finally:
            offering.cancel()
            await asyncio.wait([offering])


class Buyer:
    """Opens streams to NODE as `paths` says. `reach` turns direct lines off; `cut` breaks those there are."""

    def __init__(self, net: World, group: asyncio.TaskGroup) -> None:
        self.reach = True
        self.asked: Callable[[], Opening] = opening
        self.links: list[FramedLink] = []
        self._net = net
        self.paths = Paths(NET, Ends(net.dial, self._dial), self._ask, net.clock, group)

    def cut(self) -> None:
        """Break the direct lines, as if a cable were pulled."""
        for link in self.links:
            link.abort()
        self.links.clear()

    async def _ask(self) -> StreamGrant:
        direct = await self._net.relay.direct(node_of(NODE))
        return StreamGrant(node=node_of(NODE).hex(), lease=LEASE.hex(), ticket=self.asked().ticket, direct=direct)

    @asynccontextmanager
    async def _dial(self, at: DirectAddress, node: bytes) -> AsyncIterator[Link]:
        port = at.port if self.reach else 1
        async with dial_direct(DirectAddress(host=at.host, port=port, certificate=at.certificate), node) as link:
            self.links.append(link)
            yield link


@asynccontextmanager
async def buyer(net: World) -> AsyncIterator[Buyer]:
    """A buyer with a good ticket, until the context ends."""
    async with asyncio.TaskGroup() as group:
        made = Buyer(net, group)
        try:
            yield made
        finally:
            made.paths.close()


async def reached(net: World, node: bytes = node_of(NODE)) -> DirectAddress:
    """Wait until the relay has reached a node itself."""
    await until_async(lambda: net.relay.direct(node), "the node is reached", every=0.01)
    at = await net.relay.direct(node)
    assert at is not None
    return at


async def _echo(stream: SessionStream) -> None:
    with suppress(FallowError):
        while piece := await stream.read():
            await stream.write(piece)
        stream.end()
