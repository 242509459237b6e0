"""What streams and their readers wait with: a change that is told, and a node that moves nothing for too long."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

from fallow.domain.errors import FallowError, Unavailable
from fallow.domain.wire.frames import PAYLOAD_BYTES_MAX
from fallow.ports.clock import Clock
from fallow.ports.streams import Stream
from fallow.ports.tasks import first_error

STALL_MS: Final = 10_000
"""A node that moves nothing for so long is given up."""
TICK_S: Final = 1.0
MOVED_BYTES: Final = PAYLOAD_BYTES_MAX
"""What is written at a time, one whole frame: so much must move before a stream counts as stalled."""


class Change:
    """Something that many wait for, again and again."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def tell(self) -> None:
        """Wake all that wait."""
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self) -> None:
        """Return when it is told the next time."""
        await self._event.wait()


async def ticking(clock: Clock, seconds: float, change: Change) -> None:
    """Tell a change again and again, for those who wait for time to pass as well."""
    while True:
        await clock.sleep(seconds)
        change.tell()


async def both(one: Coroutine[Any, Any, None], other: Coroutine[Any, Any, None]) -> None:
    """Do two things at a time; where one fails, the other is cancelled."""
    with first_error():
        async with asyncio.TaskGroup() as group:
            group.create_task(one)
            group.create_task(other)


class Watch:
    """Gives up streams whose node keeps them waiting."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: dict[Watched, int] = {}

    async def run(self) -> None:
        """Look every second, until cancelled."""
        while True:
            await self._clock.sleep(TICK_S)
            before = self._clock.monotonic_ms() - STALL_MS
            for stream in [stream for stream, since_ms in self._waiting.items() if since_ms < before]:
                stream.reset(Unavailable("storage.stalled", f"The node moved nothing for {STALL_MS // 1000} s."))

    def over(self, stream: Stream) -> Watched:
        """Return the same stream, watched."""
        return Watched(self, stream)

    def begin(self, stream: Watched) -> None:
        """It waits for its node from now on."""
        self._waiting[stream] = self._clock.monotonic_ms()

    def end(self, stream: Watched) -> None:
        """It does not any more."""
        self._waiting.pop(stream, None)


class Watched:
    """The `Stream` port over another stream."""

    def __init__(self, watch: Watch, stream: Stream) -> None:
        self._watch = watch
        self._stream = stream

    async def read(self) -> bytes:
        """See the port."""
        self._watch.begin(self)
        try:
            return await self._stream.read()
        finally:
            self._watch.end(self)

    async def write(self, data: bytes | memoryview) -> None:
        """See the port."""
        try:
            rest = memoryview(data)
            while rest:
                self._watch.begin(self)
                await self._stream.write(rest[:MOVED_BYTES])
                rest = rest[MOVED_BYTES:]
        finally:
            self._watch.end(self)

    def end(self) -> None:
        """See the port."""
        self._stream.end()

    def reset(self, error: FallowError) -> None:
        """See the port."""
        self._stream.reset(error)
