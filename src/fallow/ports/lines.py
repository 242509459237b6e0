"""A link over a stream of bytes: each message behind its length.

That stream may be a connection, or a stream of another session: so a session between two parties that reach each
other directly goes on, when they no longer do, through a relay.
"""

from __future__ import annotations

from typing import Final

from fallow.domain.errors import FallowError, InvalidInput, Unavailable
from fallow.ports.streams import LINK_BYTES_MAX, Stream

LENGTH_BYTES: Final = 4
MESSAGE_BYTES_MAX: Final = LINK_BYTES_MAX + (64 << 10)
"""A message may exceed LINK_BYTES_MAX by its last frame's header, and an acknowledgement."""


class StreamLink:
    """The `Link` port over a stream."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._buffer = bytearray()

    async def send(self, data: bytes) -> None:
        """See the port."""
        try:
            await self._stream.write(b"%b%b" % (len(data).to_bytes(LENGTH_BYTES, "big"), data))
        except FallowError as error:
            raise broken() from error

    async def receive(self) -> bytes:
        """See the port.

        Raises:
            InvalidInput: what comes is no message (`wire.message`).
            Unavailable: as the port says.
        """
        size = int.from_bytes(await self._take(LENGTH_BYTES), "big")
        if size > MESSAGE_BYTES_MAX:
            raise too_large(size)
        return await self._take(size)

    async def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            try:
                piece = await self._stream.read()
            except FallowError as error:
                raise broken() from error
            if not piece:
                raise broken()
            self._buffer += piece
        taken = bytes(memoryview(self._buffer)[:size])
        del self._buffer[:size]
        return taken


def broken() -> Unavailable:
    """Return what a link that is broken raises."""
    return Unavailable("stream.link", "The link is broken.")


def too_large(size: int) -> InvalidInput:
    """Return what a message raises that is announced with so many bytes."""
    return InvalidInput("wire.message", f"A message of {size} bytes is larger than any.")
