"""Who looks on at what happens on the network: it is heard once, kept in a ring, and passed on together."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import msgspec
from litestar.types import Send

from fallow.domain.calls.processes import HAPPENINGS
from fallow.domain.decoding import UNREADABLE
from fallow.domain.happenings import Gathering, Happening, Happenings
from fallow.http.lasting import send_piece
from fallow.http.limits import Streams
from fallow.ports.bus import Bus, Message
from fallow.ports.clock import Clock
from fallow.ports.mishaps import steadily
from fallow.ports.tasks import background

KEPT: Final = 50
READERS_MAX: Final = 500
READERS_PER_ADDRESS: Final = 8
WAITING_MAX: Final = 8
"""Messages: whose connection takes none for so many seconds is told nothing more, and comes again."""
TOGETHER_S: Final = 1.0
AGAIN_MS: Final = 5_000

_log = logging.getLogger(__name__)


class Onlookers:
    """Hears what happens, keeps the latest of it, and passes it on to who looks on."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._kept = deque[Happening](maxlen=KEPT)
        self._new = Gathering()
        self._unpassed = 0
        """Of what is kept: it was heard since the last time that something was passed on."""
        self._news = asyncio.Event()
        self._readers: set[Reader] = set()
        self.per_address = Streams(READERS_PER_ADDRESS)
        self.altogether = Streams(READERS_MAX)

    @asynccontextmanager
    async def hearing(self) -> AsyncIterator[None]:
        """Hear it while the context is open."""
        async with (
            self._bus.subscribe(HAPPENINGS) as messages,
            background(
                steadily("http.happenings", partial(self._hear, messages), self._clock),
                steadily("http.onlookers", self._pass_on, self._clock),
            ),
        ):
            yield

    def latest(self) -> Happenings:
        """Return what is kept."""
        return Happenings(shown=list(self._kept))

    def join(self) -> Reader:
        """Begin to look on: with what was kept when the others were told last, and then what they are told."""
        kept = list(self._kept)
        reader = Reader(_event(Happenings(shown=kept[: max(0, len(kept) - self._unpassed)])))
        self._readers.add(reader)
        return reader

    def leave(self, reader: Reader) -> None:
        """Look on no more."""
        self._readers.discard(reader)

    async def _hear(self, messages: AsyncIterator[Message]) -> None:
        async for message in messages:
            try:
                told = msgspec.json.decode(message.data, type=Happenings)
            except UNREADABLE as error:
                _log.warning("what happens is told in a way that makes no sense here: %s", error)
                continue
            self._kept.extend(told.shown)
            self._unpassed += len(told.shown)
            self._new.add_all(told)
            self._news.set()

    async def _pass_on(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            new, self._unpassed = self._new.take(), 0
            if new is not None:
                piece = _event(new)
                for reader in self._readers:
                    reader.put(piece)
            await self._clock.sleep(TOGETHER_S)


class Reader:
    """What waits for one who looks on."""

    def __init__(self, first: bytes) -> None:
        self._waiting = asyncio.Queue[bytes](WAITING_MAX)
        self._waiting.put_nowait(first)
        self._behind = asyncio.Event()

    def put(self, piece: bytes) -> None:
        """Add a piece; where there is no room he is told nothing more."""
        if self._waiting.full():
            self._behind.set()
        else:
            self._waiting.put_nowait(piece)

    async def forward(self, send: Send) -> None:
        """Send what comes, for ever."""
        await send_piece(send, b"retry: %d\n\n" % AGAIN_MS)
        while True:
            await send_piece(send, await self._waiting.get())

    async def behind(self) -> None:
        """Return when he is too far behind."""
        await self._behind.wait()


def _event(happened: Happenings) -> bytes:
    return b"event: happened\ndata: %s\n\n" % msgspec.json.encode(happened)
