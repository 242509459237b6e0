"""What the agent moves over its owner's line: counted by calendar month, and held to the owner's pace.

Counted are blobs, streams and messages of the bus, plus a twentieth for what HTTP, TLS and TCP put around them.
Work in sandboxes has no network, so that nothing else of ours is on the line.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec

from fallow.ports.bus import Bus, Handler, Message
from fallow.ports.clock import Clock
from fallow.ports.files import write_durably
from fallow.ports.streams import Link

MESSAGE_BYTES = 100
"""What a message's subject and framing take, about."""

AROUND = 20
"""One byte of framing is counted for so many of content."""

STEP_BYTES = 16 * 1024
BURST_S = 0.25


class Month(msgspec.Struct, frozen=True):
    """Bytes moved in a month (like `2026-03`)."""

    month: str = ""
    moved: int = 0


class Traffic:
    """The counter, kept in `file`. `upload_bytes_s` is the pace of uploads; None is as fast as it goes."""

    def __init__(self, file: Path, clock: Clock) -> None:
        self.upload_bytes_s: float | None = None
        self._file = file
        self._clock = clock
        self._new = 0
        self._free_at_ms = 0.0
        try:
            self._kept = msgspec.json.decode(file.read_bytes(), type=Month)
        except (OSError, msgspec.MsgspecError):  # a budget that begins anew is better than no agent
            self._kept = Month()
        self._saved = self._kept

    def count(self, size: int) -> None:
        """Take note of bytes that went up or came down."""
        self._new += size + size // AROUND

    def moved(self, month: str) -> int:
        """Bytes of `month` so far; another month than before begins at nothing."""
        if month != self._kept.month:
            self._kept = Month(month)
        self._kept = Month(month, self._kept.moved + self._new)
        self._new = 0
        return self._kept.moved

    def save(self) -> None:
        """Keep what was counted, when it has changed. A full disk loses the count and nothing else."""
        if self._kept != self._saved:
            with suppress(OSError):
                write_durably(self._file, msgspec.json.encode(self._kept))
                self._saved = self._kept

    async def up(self, content: bytes | AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Hand content on in small pieces, counted, each when the pace allows it."""
        chunks = _whole(content) if isinstance(content, bytes) else content
        async for chunk in chunks:
            for begin in range(0, len(chunk), STEP_BYTES):
                piece = chunk[begin : begin + STEP_BYTES]
                await self.may_send(len(piece))
                yield piece

    async def may_send(self, size: int) -> None:
        """Count bytes that are about to go up, and wait until the pace allows them."""
        self.count(size)
        if self.upload_bytes_s is None:
            return
        now_ms = self._clock.monotonic_ms()
        begins_ms = max(self._free_at_ms, now_ms - BURST_S * 1000)
        self._free_at_ms = begins_ms + size * 1000 / self.upload_bytes_s
        if self._free_at_ms > now_ms:
            await self._clock.sleep((self._free_at_ms - now_ms) / 1000)


class CountedLink:
    """The `Link` port, counted and at the owner's pace."""

    def __init__(self, inner: Link, traffic: Traffic) -> None:
        self._inner = inner
        self._traffic = traffic

    async def send(self, data: bytes) -> None:
        """See the port."""
        await self._traffic.may_send(len(data))
        await self._inner.send(data)

    async def receive(self) -> bytes:
        """See the port."""
        data = await self._inner.receive()
        self._traffic.count(len(data))
        return data


class CountedBus:
    """The `Bus` port, counted."""

    def __init__(self, inner: Bus, traffic: Traffic) -> None:
        self._inner = inner
        self._traffic = traffic

    async def publish(self, subject: str, data: bytes) -> None:
        """See the port."""
        self._traffic.count(len(data) + MESSAGE_BYTES)
        await self._inner.publish(subject, data)

    async def request(self, subject: str, data: bytes, *, timeout_s: float) -> bytes:
        """See the port."""
        self._traffic.count(len(data) + MESSAGE_BYTES)
        answer = await self._inner.request(subject, data, timeout_s=timeout_s)
        self._traffic.count(len(answer) + MESSAGE_BYTES)
        return answer

    @asynccontextmanager
    async def subscribe(
        self, subject: str, *, queue: str = "", pending_max: int = 1024
    ) -> AsyncIterator[AsyncIterator[Message]]:
        """See the port."""
        async with self._inner.subscribe(subject, queue=queue, pending_max=pending_max) as messages:
            yield self._counted(messages)

    @asynccontextmanager
    async def serve(
        self, subject: str, handler: Handler, *, queue: str = "", concurrency: int = 64
    ) -> AsyncIterator[None]:
        """See the port."""

        async def counted(message: Message) -> bytes:
            answer = await handler(message)
            self._traffic.count(len(message.data) + len(answer) + 2 * MESSAGE_BYTES)
            return answer

        async with self._inner.serve(subject, counted, queue=queue, concurrency=concurrency):
            yield

    async def _counted(self, messages: AsyncIterator[Message]) -> AsyncIterator[Message]:
        async for message in messages:
            self._traffic.count(len(message.data) + MESSAGE_BYTES)
            yield message


async def _whole(content: bytes) -> AsyncIterator[bytes]:
    yield content
