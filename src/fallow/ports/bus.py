"""Control messages between processes: publish, subscribe, request and reply. Never truth: a message may be lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

MESSAGE_BYTES_MAX = 1 << 20
"""Larger payloads go through the data plane (blobs), never through the bus."""


class Message(NamedTuple):
    """One message as it came in."""

    subject: str
    data: bytes


Handler = Callable[[Message], Awaitable[bytes]]


class Bus(Protocol):
    """One connection to the bus.

    Subjects are dot-separated tokens; a subscription may use `*` for one token and a trailing `>` for the rest.
    Subscribers that name the same `queue` share the messages between them; without it each gets all.
    """

    async def publish(self, subject: str, data: bytes) -> None:
        """Send to whoever listens.

        Raises:
            TooMuch: the payload is over MESSAGE_BYTES_MAX.
            Unavailable: the connection is down.
        """
        ...

    async def request(self, subject: str, data: bytes, *, timeout_s: float) -> bytes:
        """Send and wait for one reply.

        Raises:
            TooMuch: the payload is over MESSAGE_BYTES_MAX.
            Unavailable: nobody listens, nobody answered within `timeout_s`, or the connection is down.
        """
        ...

    def subscribe(
        self, subject: str, *, queue: str = "", pending_max: int = 1024
    ) -> AbstractAsyncContextManager[AsyncIterator[Message]]:
        """Receive messages while the context is open.

        At most `pending_max` messages wait; further ones are dropped and counted, since a slow reader must not
        hold up the bus. The iterator ends when the context closes.
        """
        ...

    def serve(
        self, subject: str, handler: Handler, *, queue: str = "", concurrency: int = 64
    ) -> AbstractAsyncContextManager[None]:
        """Answer requests while the context is open, at most `concurrency` at a time.

        `handler` turns its own errors into replies; an exception that escapes it is noted as a mishap
        (`fallow.ports.mishaps`), who asked hears nothing, and the service goes on. Leaving the context waits for the
        handlers that are under way.
        """
        ...
