"""A buyer's ways to the machine that does his work: straight to it where the network has tried that, else relayed."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from typing import Final, Literal, NamedTuple

from nacl.signing import SigningKey

from fallow.adapters.clock import SystemClock
from fallow.adapters.streams.dialling import dial
from fallow.adapters.streams.direct import dial_direct
from fallow.domain.calls.streams import StreamGrant
from fallow.domain.errors import Conflict, FallowError, Unavailable
from fallow.domain.streams import DirectAddress, Exec, Line, Logs, Opening, Port, Purpose
from fallow.ports.clock import Clock
from fallow.ports.dialling import Caller, Dial, DialledSession
from fallow.ports.lines import StreamLink
from fallow.ports.session import SessionStream
from fallow.ports.streams import Link
from fallow.ports.tasks import within
from fallow.sdk.client import AsyncClient

LINK_S: Final = 15.0
LEAVE_S: Final = 2.0

_log = logging.getLogger(__name__)

Way = Literal["direct", "relayed"]
Ask = Callable[[], Awaitable[StreamGrant]]
"""Asks the network for the right to reach an item, as it runs now."""


class Opened(NamedTuple):
    """A stream, and the way that its bytes took when it was opened."""

    stream: SessionStream
    way: Way


class Ends(NamedTuple):
    """How lines are made: to the relay, and to a node (its key) itself."""

    relay: Dial
    node: Callable[[DirectAddress, bytes], AbstractAsyncContextManager[Link]] = dial_direct


class Paths:
    """Opens streams to one item's machine. Made by `paths`."""

    def __init__(self, net: str, ends: Ends, ask: Ask, clock: Clock, group: asyncio.TaskGroup) -> None:
        self._net = net
        self._ends = ends
        self._ask = ask
        self._clock = clock
        self._group = group
        self._relay: DialledSession | None = None
        self._node: _Node | None = None
        self._holding: set[asyncio.Task[None]] = set()

    async def open(self, want: Logs | Port | Exec) -> Opened:
        """Open a stream to the machine that does the work now.

        Raises:
            FallowError: the network does not grant it, or nothing can be reached.
        """
        grant = await self._ask()
        opening = Opening(grant.ticket, want).write()
        node = self._node
        if node is not None and node.grant.lease != grant.lease:
            node.holding.cancel()
            node = self._node = None
        if node is None and grant.direct is None:
            return Opened((await self.relay()).open(opening), "relayed")
        if node is None:
            node = self._node = _Node(self, grant)
        node.grant = grant
        await self._linked(node.session)
        return Opened(node.session.open(opening), node.way)

    async def relay(self) -> DialledSession:
        """Return the session with the network's relay, once it is there."""
        if self._relay is None:
            self._relay, _ = self.begin(self._ends.relay)
        await self._linked(self._relay)
        return self._relay

    def begin(
        self, dial: Dial, *, ticket: Callable[[], bytes] = bytes, peer: bytes = b""
    ) -> tuple[DialledSession, asyncio.Task[None]]:
        """Begin a session with a key of its own; the task holds it."""
        key = SigningKey.generate()
        public, sign = bytes(key.verify_key), lambda message: key.sign(message).signature
        session = DialledSession(
            Caller(self._net, public, sign, node=False, ticket=ticket, peer=peer),
            dial,
            self._clock,
            random_bytes=secrets.token_bytes,
            jitter=random.SystemRandom(),
            on_opened=_refuse,
        )
        task = self._group.create_task(session.hold())
        self._holding.add(task)
        task.add_done_callback(self._holding.discard)
        return session, task

    async def leave(self) -> None:
        """End all sessions, once the other sides know what was given up: else they hold it for a while, to go on."""
        # The node's first: its session may go through the relay's.
        for session in (self._node.session if self._node else None, self._relay):
            if session is not None:
                with suppress(Unavailable):
                    await within(self._clock, LEAVE_S, session.told())
        self.close()

    def close(self) -> None:
        """End all sessions at once."""
        for task in self._holding:
            task.cancel()

    @asynccontextmanager
    async def direct(self, grant: StreamGrant) -> AsyncIterator[Link]:
        """Make a line to the node itself."""
        if grant.direct is None:
            raise Unavailable("stream.no_direct", "The network does not reach the node from outside.")
        async with self._ends.node(grant.direct, bytes.fromhex(grant.node)) as link:
            yield link

    @asynccontextmanager
    async def relayed(self, lease: str) -> AsyncIterator[Link]:
        """Make a line through the relay to the node, as long as it has the lease."""
        grant = await self._ask()
        if grant.lease != lease:
            raise Conflict("stream.moved", "Another machine does the work now.")
        stream = (await self.relay()).open(Opening(grant.ticket, Line()).write())
        try:
            yield StreamLink(stream)
        finally:
            stream.reset(Unavailable("stream.closed", "This side has closed the connection."))

    async def _linked(self, session: DialledSession) -> None:
        async def wait() -> None:
            await session.linked.wait()

        try:
            await within(self._clock, LINK_S, wait())
        except Unavailable as error:
            raise Unavailable("stream.disconnected", session.trouble, "Try again.") from error


class _Node:
    """A session with the machine itself: over direct lines, and through the relay while none can be made.

    It goes on from one line to the next, of whatever kind: its streams lose nothing.
    """

    def __init__(self, paths: Paths, grant: StreamGrant) -> None:
        self.grant = grant
        self.way: Way = "direct"
        self._paths = paths
        self.session, self.holding = paths.begin(
            self._line, ticket=lambda: self.grant.ticket, peer=bytes.fromhex(grant.node)
        )

    @asynccontextmanager
    async def _line(self) -> AsyncIterator[Link]:
        async with AsyncExitStack() as stack:
            try:
                link = await stack.enter_async_context(self._paths.direct(self.grant))
                self.way = "direct"
            except FallowError as error:
                _log.info("bytes go through the relay: %s", error)
                link = await stack.enter_async_context(self._paths.relayed(self.grant.lease))
                self.way = "relayed"
            yield link


@asynccontextmanager
async def paths(
    client: AsyncClient, url: str, tls: ssl.SSLContext | None, job_id: str, item: int, purpose: Purpose
) -> AsyncIterator[Paths]:
    """Ways to the machine that works on an item, for one purpose, while the context is open.

    Raises:
        FallowError: the item does not run, or the account may not reach it.
    """
    await client.reach(job_id, item, purpose)  # so that what is wrong is said at once
    net = (await client.network()).net
    async with asyncio.TaskGroup() as group:
        made = Paths(
            net,
            Ends(lambda: dial(url, tls=tls)),
            lambda: client.reach(job_id, item, purpose, direct=True),
            SystemClock(),
            group,
        )
        try:
            yield made
        finally:
            await made.leave()


def _refuse(stream: SessionStream) -> None:
    stream.reset(Conflict("stream.purpose", "Nothing is served here."))
