"""A link over a connection of its own: each message behind its length, as `fallow.ports.lines` has it over a stream.

TLS opens what came straight into one buffer, from which each message is cut: asyncio's own stream reader copies each
byte three times more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, cast

from fallow.domain.errors import FallowError, InvalidInput
from fallow.ports.lines import LENGTH_BYTES, MESSAGE_BYTES_MAX, broken, too_large

WAITING_BYTES_MAX: Final = 256 << 10
"""Of messages that nobody has received yet, with their lengths (empty ones count, too): no more is read then."""


class FramedLink(asyncio.BufferedProtocol):
    """The `Link` port, and the protocol of the connection that carries it. `closed` is set once that is gone."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        self._transport: asyncio.Transport | None = None
        self._buffer = memoryview(bytearray(LENGTH_BYTES + MESSAGE_BYTES_MAX))
        self._filled = 0
        self._messages: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._came = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._error: FallowError | None = None

    async def send(self, data: bytes) -> None:
        """See the port."""
        if self._error is not None or self._transport is None:
            raise broken()
        self._transport.write(b"%b%b" % (len(data).to_bytes(LENGTH_BYTES), data))
        await self._writable.wait()

    async def receive(self) -> bytes:
        """See the port.

        Raises:
            InvalidInput: what comes is no message (`wire.message`).
            Unavailable: as the port says.
        """
        while not self._messages:
            if self._error is not None:
                raise self._error.with_traceback(None)
            self._came.clear()
            await self._came.wait()
        message = self._messages.popleft()
        before, self._waiting_bytes = self._waiting_bytes, self._waiting_bytes - LENGTH_BYTES - len(message)
        if before > WAITING_BYTES_MAX >= self._waiting_bytes and self._transport is not None:
            self._transport.resume_reading()
        return message

    def abort(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    async def close(self) -> None:
        """End the connection when all that was sent has gone out, and wait for that."""
        if self._transport is not None:
            self._transport.close()
            await self.closed.wait()

    # For the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - there is always room for the rest of a message
        """See asyncio."""
        return self._buffer[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """See asyncio."""
        self._filled += nbytes
        try:
            used = self._cut()
        except InvalidInput as error:
            self._fail(error)
            return
        if used:
            rest = self._filled - used
            self._buffer[:rest] = self._buffer[used : self._filled]
            self._filled = rest

    def eof_received(self) -> None:
        """See asyncio."""
        self._fail(broken())

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - whatever it was, the link is broken
        """See asyncio."""
        self._fail(broken())
        self.closed.set()

    def pause_writing(self) -> None:
        """See asyncio."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """See asyncio."""
        self._writable.set()

    # Inside

    def _cut(self) -> int:
        """Cut off all messages that are whole; returns the bytes that they took."""
        at, before = 0, self._waiting_bytes
        while self._filled - at >= LENGTH_BYTES:
            size = int.from_bytes(self._buffer[at : at + LENGTH_BYTES])
            if size > MESSAGE_BYTES_MAX:
                raise too_large(size)
            begin, end = at + LENGTH_BYTES, at + LENGTH_BYTES + size
            if end > self._filled:
                break
            self._messages.append(bytes(self._buffer[begin:end]))
            self._waiting_bytes += LENGTH_BYTES + size
            at = end
        if at:
            self._came.set()
        if before <= WAITING_BYTES_MAX < self._waiting_bytes and self._transport is not None:
            self._transport.pause_reading()
        return at

    def _fail(self, error: FallowError) -> None:
        if self._error is None:
            self._error = error
        self._came.set()
        self._writable.set()
