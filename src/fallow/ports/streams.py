"""Bytes between parties that need not reach each other: streams over sessions over links."""

from __future__ import annotations

from typing import Protocol

from fallow.domain.errors import FallowError
from fallow.domain.streams import DirectAddress, Opening

LINK_BYTES_MAX = 256 << 10
"""A link carries messages of at most so many bytes."""
READ_BYTES_MAX = 256 << 10
"""A stream is read by so many bytes at most."""


class Link(Protocol):
    """A connection that carries messages, in order and whole, until it breaks."""

    async def send(self, data: bytes) -> None:
        """Send a message; waits while the other side is slow.

        Raises:
            Unavailable: the link is broken.
        """
        ...

    async def receive(self) -> bytes:
        """Return the next message.

        Raises:
            Unavailable: the link is broken, or the other side has closed it.
        """
        ...


class Stream(Protocol):
    """Bytes in both directions, each with its own end. A slow reader slows the writer down and nobody else."""

    async def read(self) -> bytes:
        """Return what comes next, at most `READ_BYTES_MAX`; empty after the other side's end.

        Raises:
            FallowError: the stream was given up, as the other side said it, or Unavailable (`stream.lost`).
        """
        ...

    async def write(self, data: bytes | memoryview) -> None:
        """Send; waits while the other side is slow. Errors as for `read`."""
        ...

    def end(self) -> None:
        """Say that nothing further comes from this side."""
        ...

    def reset(self, error: FallowError) -> None:
        """Give the stream up, telling the other side why; nothing happens when it is over."""
        ...


class Streams(Protocol):
    """Opens streams to nodes."""

    async def open(self, opening: Opening) -> Stream:
        """Open a stream to the node that the opening's ticket names.

        Whether the node takes it shows when it is read.

        Raises:
            NotAllowed: the ticket is not good.
            TooMuch: the account has too many streams open, or the node.
            Unavailable: the node is not connected.
        """
        ...

    async def direct(self, node: bytes) -> DirectAddress | None:
        """Return where a node can be dialled itself, as the network has tried; None where it cannot, or is away."""
        ...
