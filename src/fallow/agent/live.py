"""What buyers see of their work while it runs on this node."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from fallow.agent.commands import Commands
from fallow.agent.door import NodeDoor
from fallow.agent.identity import NodeKey
from fallow.agent.leases import Held, Leases
from fallow.agent.services import Services
from fallow.domain.errors import FallowError, NotAllowed, NotFound, TooMuch, Unavailable
from fallow.domain.streams import (
    Exec,
    Line,
    Logs,
    Opening,
    Port,
    Service,
    StreamTicket,
    check_ticket,
    is_for_service,
    read_opening,
)
from fallow.domain.wire.multiplex import PEOPLE_STREAMS_MAX
from fallow.ports.clock import Clock
from fallow.ports.mishaps import MISHAPS
from fallow.ports.session import SessionStream
from fallow.ports.splicing import ConnectionStream, splice
from fallow.ports.streams import Stream

LOOK_FIRST_S: Final = 0.01
LOOK_EVERY_S: Final = 0.2
"""How often a log that is followed is looked at."""

LOOK_GROWTH: Final = 1.25
"""The first output comes some hundred milliseconds after the start: it waits for a fifth of that at most."""

CHUNK_BYTES: Final = 64 << 10

_log = logging.getLogger(__name__)

Carry = Callable[[Stream], Awaitable[None]]


class Live:
    """Serves streams that come in for leases, and for what workers serve beside them.

    They come through relays, and by the `door` where this node itself is dialled.

    `work` is the folder of the leases' workspaces.
    """

    def __init__(
        self,
        leases: Leases,
        services: Services,
        clock: Clock,
        *,
        net: str,
        key: NodeKey,
        network_key: bytes,
        work: Path,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._leases = leases
        self._services = services
        self._people = 0
        self._clock = clock
        self._net = net
        self._node = key.node
        self._network_key = network_key
        self._work = work
        self._commands = Commands(clock)
        self._group: asyncio.TaskGroup | None = None
        self.door = NodeDoor(
            net,
            key,
            network_key,
            clock,
            random_bytes=random_bytes,
            spawn=self._spawn,
            take=self._take_direct,
        )

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                await asyncio.Event().wait()
            finally:
                self._group = None

    def take(self, stream: SessionStream) -> None:
        """Serve a stream that was opened to this node through a relay."""
        self._begin(stream, self.door.carry)

    def _take_direct(self, stream: SessionStream) -> None:
        """Serve a stream of a session with the node itself; it carries no further session."""
        self._begin(stream, _refuse)

    def _begin(self, stream: SessionStream, carry: Carry) -> None:
        if self._group is None:
            stream.reset(Unavailable("stream.stopping", "The agent stops."))
        else:
            self._group.create_task(self._serve(stream, carry))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        if self._group is None:
            work.close()
        else:
            self._group.create_task(work)

    async def _serve(self, stream: SessionStream, carry: Carry) -> None:
        try:
            opening = read_opening(stream.opening)
            ticket = self._ticket_of(opening)
            want = opening.want
            if isinstance(want, Service):
                await self._services.serve(stream, want, ticket)
            elif isinstance(want, Line) and is_for_service(ticket):
                await carry(stream)
            else:
                with self._counted():
                    await self._serve_lease(stream, self._lease_of(ticket), want, carry)
        except FallowError as error:
            stream.reset(error)
        except asyncio.CancelledError:
            stream.reset(Unavailable("stream.stopping", "The agent stops."))
            raise
        except Exception as error:  # noqa: BLE001 - one stream's trouble must not end the others, nor the work
            MISHAPS.note("live.stream", error)
            stream.reset(Unavailable("stream.node", "The node failed at this."))

    async def _serve_lease(self, stream: Stream, held: Held, want: Logs | Exec | Port | Line, carry: Carry) -> None:
        if isinstance(want, Logs):
            await send_log(stream, self._work / held.proposal.lease, want, held.over, self._clock)
        elif isinstance(want, Exec):
            await self._commands.serve(stream, held, want)
        elif isinstance(want, Port):
            await self._connect(stream, held, want.port)
        else:
            await carry(stream)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        if self._people >= PEOPLE_STREAMS_MAX:
            raise TooMuch("rate.streams", f"{PEOPLE_STREAMS_MAX} streams are open to this node.", "Try again later.")
        self._people += 1
        try:
            yield
        finally:
            self._people -= 1

    async def _connect(self, stream: Stream, held: Held, port: int) -> None:
        """Carry a connection to a port in the sandbox."""
        if held.inside is None:
            raise NotFound("stream.no_inside", "Its sandbox has no ports, or has not begun.", "Try again in a moment.")
        reader, writer = await asyncio.open_connection(sock=await held.inside.connect(port))
        try:
            await splice(stream, ConnectionStream(reader, writer), self._clock)
        finally:
            writer.close()

    def _ticket_of(self, opening: Opening) -> StreamTicket:
        ticket = check_ticket(opening, net=self._net, network_key=self._network_key, now_ms=self._clock.now_ms())
        if ticket.node != self._node:
            raise NotAllowed("stream.ticket", "The ticket is for another node.")
        return ticket

    def _lease_of(self, ticket: StreamTicket) -> Held:
        held = self._leases.held.get(ticket.lease.hex())
        if held is None:
            raise NotFound("stream.no_lease", "This node does not work on that lease now.")
        return held


async def _refuse(_: Stream) -> None:
    raise NotAllowed("stream.purpose", "A session with the node itself carries no other.")


async def send_log(stream: Stream, workspace: Path, want: Logs, over: asyncio.Event, clock: Clock) -> None:
    """Send what a program writes, and end; `over` is set when nothing more comes.

    Raises:
        FallowError: the stream broke.
    """
    offset, fd, pause_s = want.offset, None, LOOK_FIRST_S
    try:
        while True:
            last = over.is_set() or not want.follow
            if fd is None:
                fd = _opened(workspace / want.source)
            while fd is not None and (chunk := os.pread(fd, CHUNK_BYTES, offset)):
                await stream.write(chunk)
                offset += len(chunk)
            if last:
                break
            await clock.sleep(pause_s)
            pause_s = min(LOOK_EVERY_S, LOOK_GROWTH * pause_s)
        stream.end()
    finally:
        if fd is not None:
            os.close(fd)


def _opened(path: Path) -> int | None:
    """Open a log; None when it is not there yet. Nothing but an ordinary file is read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    return None
