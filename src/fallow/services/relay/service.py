"""The relay: takes in sessions, and joins each stream with one to the node that its ticket names."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Final

import msgspec

from fallow.domain import calls
from fallow.domain.errors import FallowError, TooMuch, Unavailable
from fallow.domain.streams import DirectAddress, Opening, StreamTicket, check_ticket, is_for_service, read_opening
from fallow.domain.wire import greeting
from fallow.ports.bus import Bus, Message
from fallow.ports.clock import Clock
from fallow.ports.door import Door
from fallow.ports.mishaps import MISHAPS, internal, steadily
from fallow.ports.rpc import call
from fallow.ports.session import SessionStream
from fallow.ports.sessions import Held, Sessions, not_enrolled
from fallow.ports.splicing import splice
from fallow.ports.streams import Link, Stream
from fallow.services.relay.others import DialRelay, Others
from fallow.services.relay.probing import Probes

STREAMS_PER_ACCOUNT_MAX: Final = 32
SERVICE_STREAMS_PER_ACCOUNT_MAX: Final = 1024
"""Of what nodes serve beside leases: their accounts are gateways, which move many pieces at a time."""
OPENER_IDLE_S: Final = 300.0
CHECK_EVERY_S: Final = 600.0
"""A node is checked again after this time, so that a ban takes hold without waiting for it to leave."""

_log = logging.getLogger(__name__)


class Relay:
    """The `Streams` port, in the gateway's process. `network_key` is what tickets are signed with.

    `dial` reaches the relay of another gateway at its URL; `probes` tries nodes that say that they can be dialled.
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
        probes: Probes,
    ) -> None:
        self._net = net
        self._network_key = network_key
        self._bus = bus
        self._clock = clock
        self._random_bytes = random_bytes
        self._sessions = Sessions(self._on_opened)
        self._door = Door(
            net,
            self._sessions,
            clock,
            random_bytes=random_bytes,
            spawn=self._spawn,
            admit=self._admit,
            begun=self._begun,
        )
        self._probes = probes
        self._accounts: Counter[tuple[bytes, bool]] = Counter()
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
        async with (
            self._bus.subscribe(calls.streams.NODE_TAKEN) as taken,
            self._bus.subscribe(calls.actions.BANNED) as banned,
            asyncio.TaskGroup() as group,
        ):
            self._group, self._others = group, others
            self._spawn(steadily("relay.bans", partial(self._hear_bans, banned), self._clock))
            self._spawn(steadily("relay.taken", partial(others.hear, taken, self._taken_elsewhere), self._clock))
            try:
                yield
            finally:
                self._sessions.drop_all(_stopped())
                self._group = None
                for task in self._tasks:
                    task.cancel()

    async def attend(self, link: Link, address: str) -> None:
        """Carry a session over a link that came from `address`, until the link breaks."""
        await self._door.attend(link, address)

    async def open(self, opening: Opening) -> Stream:
        """See the port."""
        return await self._open(self._check(opening), opening)

    async def direct(self, node: bytes) -> DirectAddress | None:
        """See the port."""
        held = self._sessions.node(node)
        if held is not None or self._others is None:
            return held.direct if held is not None else None
        return await self._others.direct(node)

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
            self._spawn(self._probes.keep(held, stream))
        else:
            self._spawn(self._relay(stream))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Have something done beside; nothing begins any more once the relay stops."""
        if self._group is None:
            work.close()
            return
        task = self._group.create_task(_surviving(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _relay(self, near: SessionStream) -> None:
        try:
            opening = read_opening(near.opening)
            ticket = self._check(opening)
            with self._counted(ticket.account, service=is_for_service(ticket)):
                await splice(near, await self._open(ticket, opening), self._clock)
        except FallowError as error:
            near.reset(error)
        except Exception as error:  # noqa: BLE001 - one stream's trouble must not end the others
            MISHAPS.note("relay.stream", error)
            near.reset(internal())

    @contextmanager
    def _counted(self, account: bytes, *, service: bool) -> Iterator[None]:
        most, whose = SERVICE_STREAMS_PER_ACCOUNT_MAX if service else STREAMS_PER_ACCOUNT_MAX, (account, service)
        if self._accounts[whose] >= most:
            raise TooMuch("rate.streams", f"{most} streams of this account are open.", "Close some of them.")
        self._accounts[whose] += 1
        try:
            yield
        finally:
            self._accounts[whose] -= 1
            if not self._accounts[whose]:
                del self._accounts[whose]

    async def _hear_bans(self, banned: AsyncIterator[Message]) -> None:
        async for message in banned:
            for node in msgspec.msgpack.decode(message.data, type=list[str]):
                held = self._sessions.node(bytes.fromhex(node))
                if held is not None:
                    self._sessions.drop(held, not_enrolled())

    async def _admit(self, said: greeting.Introduction, claim: greeting.Claim) -> None:
        if self._group is None:
            raise _stopped()
        if claim.node and not await self._is_enrolled(said.key):
            raise not_enrolled()

    def _begun(self, held: Held) -> None:
        if held.node:
            self._spawn(self._keep_checking(held))
            self._spawn(self._answer_for(held))
        else:
            self._spawn(self._door.end_idle(held, OPENER_IDLE_S))

    async def _answer_for(self, held: Held) -> None:
        """Let other gateways find a node here; without a bus they do not, and the node is as good as away for them."""
        try:
            if self._others is not None:
                await self._others.answer_for(held)
        except FallowError as error:
            self._sessions.drop(held, error)

    async def _keep_checking(self, held: Held) -> None:
        while held.session.over is None:
            await self._clock.sleep(CHECK_EVERY_S)
            try:
                if not await self._is_enrolled(held.key):
                    self._sessions.drop(held, not_enrolled())
            except Unavailable as error:
                _log.info("whether a node may still be here cannot be asked: %s", error)

    async def _is_enrolled(self, node: bytes) -> bool:
        return await call(self._bus, calls.nodes.MAY_CONNECT, calls.base.NodeRef(node=node.hex()), bool)


async def _surviving(work: Coroutine[Any, Any, None]) -> None:
    """Do what is done beside; a bug in it ends nothing else."""
    try:
        await work
    except Exception as error:  # noqa: BLE001 - see above
        MISHAPS.note("relay.beside", error)


def _stopped() -> Unavailable:
    return Unavailable("stream.gateway", "The gateway starts or stops.", "Try again in a moment.")
