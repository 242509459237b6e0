"""The relay: takes in sessions, and joins each stream with one to the node that its ticket names."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

from fallow.domain import calls
from fallow.domain.errors import FallowError, NotAllowed, TooMuch, Unavailable
from fallow.domain.streams import Opening, StreamTicket, check_ticket, read_opening
from fallow.domain.wire import greeting
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.dialling import GREETING_S, RESUME_S
from fallow.ports.rpc import call
from fallow.ports.session import SessionStream, lost
from fallow.ports.splicing import splice
from fallow.ports.streams import Link, Stream
from fallow.ports.tasks import within
from fallow.services.relay.others import DialRelay, Others
from fallow.services.relay.sessions import Held, Sessions, not_enrolled, receive_claim, refuse

STREAMS_PER_ACCOUNT_MAX: Final = 32
OPENER_IDLE_S: Final = 300.0
CHECK_EVERY_S: Final = 600.0
"""A node is checked again after this time, so that a ban takes hold without waiting for it to leave."""

_log = logging.getLogger(__name__)


class Relay:
    """The `Streams` port, in the gateway's process. `network_key` is what tickets are signed with.

    `dial` reaches the relay of another gateway at its URL.
    """

    def __init__(
        self,
        *,
        net: str,
        network_key: bytes,
        bus: Bus,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        dial: DialRelay,
    ) -> None:
        self._net = net
        self._network_key = network_key
        self._bus = bus
        self._clock = clock
        self._random_bytes = random_bytes
        self._sessions = Sessions(self._on_opened)
        self._accounts: Counter[bytes] = Counter()
        self._dial = dial
        self._others: Others | None = None
        self._group: asyncio.TaskGroup | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self, url: str) -> AsyncIterator[None]:
        """Relay while the context is open, reached by other gateways at `url`; leaving it ends all sessions."""
        others = Others(
            self._net,
            url,
            bus=self._bus,
            clock=self._clock,
            dial=self._dial,
            random_bytes=self._random_bytes,
            spawn=self._spawn,
        )
        async with self._bus.subscribe(calls.NODE_TAKEN) as taken, asyncio.TaskGroup() as group:
            self._group, self._others = group, others
            self._spawn(others.hear(taken, self._taken_elsewhere))
            try:
                yield
            finally:
                self._sessions.drop_all(_stopped())
                self._group = None
                for task in self._tasks:
                    task.cancel()

    async def attend(self, link: Link, address: str) -> None:
        """Carry a session over a link that came from `address`, until the link breaks."""
        hello = greeting.Hello(self._net, self._random_bytes(greeting.NONCE_BYTES))
        try:
            if self._group is None:
                raise _stopped()
            key, claim = await within(self._clock, GREETING_S, receive_claim(link, hello))
            if claim.node and not await self._is_enrolled(key):
                raise not_enrolled()
            held, resumed = self._sessions.admit(claim, key, address)
            await held.session.leave_link()
            await link.send(greeting.write(greeting.Welcome(resumed, held.session.received)))
        except FallowError as error:
            await refuse(link, error)
            return
        await self._drive(held, link, claim.received if resumed else 0)

    async def open(self, opening: Opening) -> Stream:
        """See the port."""
        return await self._open(self._check(opening), opening)

    # Inside

    async def _open(self, ticket: StreamTicket, opening: Opening) -> Stream:
        held = self._sessions.node(ticket.node)
        if held is not None:
            return held.session.open(opening.write())
        if self._others is None:
            raise _stopped()
        return await self._others.open(ticket.node, opening)

    def _taken_elsewhere(self, node: bytes) -> None:
        held = self._sessions.node(node)
        if held is not None:
            self._sessions.drop(held, Unavailable("stream.replaced", "The node has connected to another gateway."))

    def _check(self, opening: Opening) -> StreamTicket:
        return check_ticket(opening, net=self._net, network_key=self._network_key, now_ms=self._clock.now_ms())

    def _on_opened(self, held: Held, stream: SessionStream) -> None:
        if held.node:
            stream.reset(NotAllowed("stream.purpose", "Nodes open no streams here."))
        else:
            self._spawn(self._relay(stream))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Have something done beside; nothing begins any more once the relay stops."""
        if self._group is None:
            work.close()
            return
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _relay(self, near: SessionStream) -> None:
        try:
            opening = read_opening(near.opening)
            ticket = self._check(opening)
            with self._counted(ticket.account):
                await splice(near, await self._open(ticket, opening), self._clock)
        except FallowError as error:
            near.reset(error)
        except Exception:  # noqa: BLE001 - logged with its trace
            # One stream's trouble must not end the others.
            _log.exception("a stream could not be relayed")
            near.reset(_stopped())

    @contextmanager
    def _counted(self, account: bytes) -> Iterator[None]:
        if self._accounts[account] >= STREAMS_PER_ACCOUNT_MAX:
            raise TooMuch(
                "rate.streams", f"{STREAMS_PER_ACCOUNT_MAX} streams of this account are open.", "Close some of them."
            )
        self._accounts[account] += 1
        try:
            yield
        finally:
            self._accounts[account] -= 1
            if not self._accounts[account]:
                del self._accounts[account]

    async def _drive(self, held: Held, link: Link, received: int) -> None:
        held.links += 1
        number = held.links
        try:
            if number == 1 and held.node:
                self._spawn(self._keep_checking(held))
                self._spawn(self._answer_for(held))
            elif number == 1:
                self._spawn(self._end_idle(held))
            await held.session.drive(link, received)
        except Unavailable:
            if held.session.over is None:
                self._spawn(self._end_unless_resumed(held, number))
        except FallowError as error:
            _log.warning("session of %s ended: %s", held.address, error)
            self._sessions.drop(held, error)

    async def _answer_for(self, held: Held) -> None:
        """Let other gateways find a node here; without a bus they do not, and the node is as good as away for them."""
        try:
            if self._others is not None:
                await self._others.answer_for(held)
        except FallowError as error:
            self._sessions.drop(held, error)

    async def _end_unless_resumed(self, held: Held, number: int) -> None:
        await self._clock.sleep(RESUME_S)
        if held.links == number:
            self._sessions.drop(held, lost())

    async def _keep_checking(self, held: Held) -> None:
        while held.session.over is None:
            await self._clock.sleep(CHECK_EVERY_S)
            try:
                if not await self._is_enrolled(held.key):
                    self._sessions.drop(held, not_enrolled())
            except Unavailable as error:
                _log.info("whether a node may still be here cannot be asked: %s", error)

    async def _end_idle(self, held: Held) -> None:
        """End an opener's session that carries nothing: anybody may begin one."""
        before = -1
        while held.session.streams or held.session.received != before:
            before = held.session.received
            await self._clock.sleep(OPENER_IDLE_S)
        self._sessions.drop(held, Unavailable("stream.idle", "Nothing was opened for a while.", "Connect again."))

    async def _is_enrolled(self, node: bytes) -> bool:
        return await call(self._bus, calls.MAY_CONNECT, calls.NodeRef(node=node.hex()), bool)


def _stopped() -> Unavailable:
    return Unavailable("stream.gateway", "The gateway starts or stops.", "Try again in a moment.")
