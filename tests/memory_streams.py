"""Streams in memory, and a clock for them."""

from __future__ import annotations

import asyncio
from collections import deque

from fallow.adapters.clock import SystemClock
from fallow.domain.errors import FallowError


class QuickClock:
    """The machine's clock, twenty times as fast; but nobody is late because the whole process was held up."""

    TIMES = 20
    STEP_MS = 10
    """So much of the machine's time is counted from one look at it to the next, at most."""

    def __init__(self) -> None:
        self._system = SystemClock()
        self._began_ms = self._system.now_ms()
        self._seen_ms = self._system.monotonic_ms()
        self._ms = 0

    def now_ms(self) -> int:
        """See the port."""
        return self._began_ms + self.monotonic_ms()

    def monotonic_ms(self) -> int:
        """See the port."""
        before_ms, self._seen_ms = self._seen_ms, self._system.monotonic_ms()
        self._ms += min(self._seen_ms - before_ms, self.STEP_MS) * self.TIMES
        return self._ms

    async def sleep(self, seconds: float) -> None:
        """See the port."""
        await asyncio.sleep(seconds / self.TIMES)


class _Half:
    """Bytes in one direction, a window of them at a time."""

    def __init__(self) -> None:
        self.chunks: deque[bytes] = deque()
        self.size = 0
        self.ended = False
        self.error: FallowError | None = None
        self.changed = asyncio.Event()

    def wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


class MemoryStream:
    """One end of a stream: the `Stream` port."""

    WINDOW_BYTES = 512 << 10

    def __init__(self, inward: _Half, outward: _Half) -> None:
        self._in = inward
        self._out = outward

    async def read(self) -> bytes:
        """See the port."""
        while not self._in.chunks:
            if self._in.error is not None:
                raise self._in.error.with_traceback(None)
            if self._in.ended:
                return b""
            await self._in.changed.wait()
        chunk = self._in.chunks.popleft()
        self._in.size -= len(chunk)
        self._in.wake()
        return chunk

    async def write(self, data: bytes | memoryview) -> None:
        """See the port."""
        for at in range(0, len(data), 64 << 10):
            while self._out.size >= self.WINDOW_BYTES and self._out.error is None:
                await self._out.changed.wait()
            if self._out.error is not None:
                raise self._out.error.with_traceback(None)
            chunk = bytes(data[at : at + (64 << 10)])
            self._out.chunks.append(chunk)
            self._out.size += len(chunk)
            self._out.wake()

    def end(self) -> None:
        """See the port."""
        self._out.ended = True
        self._out.wake()

    def reset(self, error: FallowError) -> None:
        """See the port."""
        if self._out.ended and self._in.ended:
            return
        for half in (self._in, self._out):
            half.error = half.error or error
            half.wake()


def stream_pair() -> tuple[MemoryStream, MemoryStream]:
    """Make the two ends of a stream."""
    one, other = _Half(), _Half()
    return MemoryStream(one, other), MemoryStream(other, one)
