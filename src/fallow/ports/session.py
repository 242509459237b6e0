"""A session: many streams between two parties, which survives the links that carry it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from fallow.domain.errors import FallowError, Unavailable
from fallow.domain.wire.multiplex import Broken, Ended, Event, Mux, Opened, Received, Writable
from fallow.ports.streams import LINK_BYTES_MAX, READ_BYTES_MAX, Link


class SessionStream:
    """One stream of a session: the `Stream` port. `opening` is what it was opened with."""

    def __init__(self, session: Session, number: int, opening: bytes) -> None:
        self.opening = opening
        self._session = session
        self._number = number
        self._chunks: deque[bytes] = deque()
        self._ended = False
        self._error: FallowError | None = None
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()

    async def read(self) -> bytes:
        """See the port."""
        while not self._chunks:
            if self._error is not None:
                raise self._error.with_traceback(None)
            if self._ended:
                return b""
            self._readable.clear()
            await self._readable.wait()
        chunk = self._next()
        self._session.consumed(self._number, len(chunk))
        return chunk

    async def write(self, data: bytes | memoryview) -> None:
        """See the port."""
        rest = memoryview(data)
        while rest:
            if self._error is not None:
                raise self._error.with_traceback(None)
            sent = self._session.send(self._number, rest)
            rest = rest[sent:]
            if not sent:
                self._writable.clear()
                await self._session.room(self._writable)

    def end(self) -> None:
        """See the port."""
        if self._error is None:
            self._session.end(self._number)

    def reset(self, error: FallowError) -> None:
        """See the port."""
        self._session.reset(self._number, error)
        self.fail(error)

    # For the session

    def take(self, chunk: bytes) -> None:
        """Take in what came."""
        self._chunks.append(chunk)
        self._readable.set()

    def finish(self) -> None:
        """Nothing further comes."""
        self._ended = True
        self._readable.set()

    def fail(self, error: FallowError) -> None:
        """The stream is over. What came before the failure can still be read."""
        if self._error is None:
            self._error = error
        self._readable.set()
        self._writable.set()

    def wake(self) -> None:
        """There may be room to write."""
        self._writable.set()

    # Inside

    def _next(self) -> bytes:
        """What has come: what one message brought costs its reader one turn, and not one for each frame."""
        if len(self._chunks) == 1:
            return self._chunks.popleft()
        taken, size = list[bytes](), 0
        while self._chunks and (not taken or size + len(self._chunks[0]) <= READ_BYTES_MAX):
            taken.append(self._chunks.popleft())
            size += len(taken[-1])
        return b"".join(taken)


class Session:
    """One side of a session. `dialled` says that this side made the connection.

    `on_opened` is told of streams that the other side opens, and must not wait. `over` is set once it is over.
    """

    def __init__(self, *, dialled: bool, on_opened: Callable[[SessionStream], None]) -> None:
        self.over: FallowError | None = None
        self._mux = Mux(dialled=dialled)
        self._on_opened = on_opened
        self._streams: dict[int, SessionStream] = {}
        self._blocked: set[asyncio.Event] = set()
        self._output = asyncio.Event()
        self._told = asyncio.Event()
        self._superseded = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def received(self) -> int:
        """How many frames have arrived: what the greeting over the next link says."""
        return self._mux.received

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return len(self._streams)

    def open(self, opening: bytes) -> SessionStream:
        """Open a stream.

        Raises:
            TooMuch: too many are open.
            FallowError: the session is over.
        """
        if self.over is not None:
            raise self.over
        number = self._mux.open(opening)
        stream = self._streams[number] = SessionStream(self, number, opening)
        self._output.set()
        return stream

    async def leave_link(self) -> None:
        """Return once no link carries the session: one that still does is given up."""
        self._superseded.set()
        await self._idle.wait()

    async def drive(self, link: Link, peer_received: int = 0) -> None:
        """Carry the session over a link until that breaks or is superseded; `peer_received` is as the peer greeted.

        Raises:
            Unavailable: the link broke, or another one took its place. The session can go on over the next.
            InvalidInput: the other side broke the protocol: the session is over.
        """
        self._superseded.clear()
        self._idle.clear()
        try:
            self._mux.relink(peer_received)
            self._output.set()
            self._wake_all()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._receive(link))
                group.create_task(self._send(link))
                group.create_task(self._leave())
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            self._idle.set()

    async def told(self) -> None:
        """Return once all that was said until now has gone out over a link; never while there is none."""
        self._told.clear()
        self._output.set()
        await self._told.wait()

    def close(self, error: FallowError) -> None:
        """End the session: all its streams fail with `error`."""
        if self.over is None:
            self.over = error
            self._superseded.set()
            for stream in list(self._streams.values()):
                stream.fail(error)
            self._streams.clear()
            self._wake_all()

    # For its streams

    def send(self, number: int, data: memoryview) -> int:
        """Send what there is room for; see `Mux.send`."""
        sent = self._mux.send(number, data)
        self._output.set()
        return sent

    async def room(self, writable: asyncio.Event) -> None:
        """Wait until `writable` is set, by credit or by room in the session."""
        self._blocked.add(writable)
        try:
            await writable.wait()
        finally:
            self._blocked.discard(writable)

    def end(self, number: int) -> None:
        """Half-close; see `Mux.end`."""
        self._mux.end(number)
        self._output.set()
        self._tidy(number)

    def reset(self, number: int, error: FallowError) -> None:
        """Give a stream up."""
        self._mux.reset(number, error)
        self._streams.pop(number, None)
        self._output.set()

    def consumed(self, number: int, size: int) -> None:
        """Bytes were read."""
        self._mux.consumed(number, size)
        if self._mux.has_output:
            self._output.set()

    # Inside

    async def _receive(self, link: Link) -> None:
        while True:
            for event in self._mux.feed(await link.receive()):
                self._handle(event)
            if self._mux.has_output:
                self._output.set()

    async def _send(self, link: Link) -> None:
        while True:
            await self._output.wait()
            self._output.clear()
            while self._mux.has_output:
                await link.send(self._mux.take(LINK_BYTES_MAX))
                self._wake_all()
            self._told.set()

    async def _leave(self) -> None:
        await self._superseded.wait()
        raise self.over or Unavailable("stream.link", "Another link carries the session now.")

    def _handle(self, event: Event) -> None:
        number = event.stream
        stream = self._streams.get(number)
        match event:
            case Opened():
                stream = self._streams[number] = SessionStream(self, number, event.opening)
                self._on_opened(stream)
            case Received() if stream is not None:
                stream.take(event.data)
            case Ended() if stream is not None:
                stream.finish()
                self._tidy(number)
            case Broken() if stream is not None:
                del self._streams[number]
                stream.fail(event.error)
            case Writable() if number == 0:
                self._wake_all()
            case Writable() if stream is not None:
                stream.wake()

    def _tidy(self, number: int) -> None:
        if not self._mux.is_open(number):
            self._streams.pop(number, None)

    def _wake_all(self) -> None:
        for writable in self._blocked:
            writable.set()


def lost() -> Unavailable:
    """Return what streams fail with whose session did not come back."""
    return Unavailable("stream.lost", "The connection broke and was not made again in time.", "Try again.")
