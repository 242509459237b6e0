"""The bus inside one process: same semantics as NATS, no sockets, no threads, no time but the loop's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from fallow.adapters.memory.mailbox import Mailbox, answering
from fallow.adapters.memory.subjects import Matcher, check_pattern, check_subject
from fallow.domain.errors import TooMuch, Unavailable
from fallow.ports.bus import MESSAGE_BYTES_MAX, Handler, Message

SERVE_PENDING_MAX = 1024
"""Requests that wait for a free handler; further ones are dropped."""


class _Envelope(NamedTuple):
    message: Message
    reply: asyncio.Future[bytes] | None


class _Listener(NamedTuple):
    queue: str
    inbox: Mailbox[_Envelope]
    bus: MemoryBus


class MemoryHub:
    """Where the parties meet. Take it down with `up = False` and what is sent fails, as with a dead server."""

    def __init__(self) -> None:
        self.up = True
        self._listeners: Matcher[_Listener] = Matcher()
        self._turns: dict[str, int] = {}

    def connect(self) -> MemoryBus:
        """Make one party's connection; it needs no closing."""
        return MemoryBus(self)

    def deliver(self, envelope: _Envelope) -> int:
        """Put the envelope into every mailbox that it is for; returns how many listeners there were."""
        chosen = self._choose(envelope.message.subject)
        for listener in chosen:
            if not listener.inbox.put(envelope):
                listener.bus.dropped += 1
        return len(chosen)

    @asynccontextmanager
    async def listening(self, pattern: str, listener: _Listener) -> AsyncIterator[None]:
        """Hold one listener while the context is open, and close its mailbox after."""
        self._listeners.add(pattern, listener)
        try:
            yield
        finally:
            self._listeners.remove(pattern, listener)
            listener.inbox.close()

    def _choose(self, subject: str) -> list[_Listener]:
        """All those without a queue, and one of each queue, in turn so that a run can be repeated."""
        chosen: list[_Listener] = []
        queues: dict[str, list[_Listener]] = {}
        for listener in self._listeners.find(subject):
            if listener.queue:
                queues.setdefault(listener.queue, []).append(listener)
            else:
                chosen.append(listener)
        for queue, members in queues.items():
            turn = self._turns.get(queue, 0)
            self._turns[queue] = turn + 1
            chosen.append(members[turn % len(members)])
        return chosen


class MemoryBus:
    """One party's connection to a hub: the `Bus` port. `dropped` counts what its slow readers missed."""

    def __init__(self, hub: MemoryHub) -> None:
        self.dropped = 0
        self._hub = hub

    async def publish(self, subject: str, data: bytes) -> None:
        """See the port; errors `bus.payload`, `bus.disconnected`, `bus.subject`."""
        await self._send(_Envelope(Message(subject, data), None))

    async def request(self, subject: str, data: bytes, *, timeout_s: float) -> bytes:
        """See the port; errors also `bus.no_responders`, `bus.timeout`."""
        reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_s):
                if not await self._send(_Envelope(Message(subject, data), reply)):
                    raise Unavailable("bus.no_responders", f"Nobody serves {subject}.")
                return await reply
        except TimeoutError:
            raise Unavailable("bus.timeout", f"No answer on {subject} within {timeout_s} s.") from None
        finally:
            reply.cancel()

    @asynccontextmanager
    async def subscribe(
        self, subject: str, *, queue: str = "", pending_max: int = 1024
    ) -> AsyncIterator[AsyncIterator[Message]]:
        """See the port."""
        inbox: Mailbox[_Envelope] = Mailbox(pending_max)
        async with self._listening(subject, queue, inbox):
            yield _messages(inbox)

    @asynccontextmanager
    async def serve(
        self, subject: str, handler: Handler, *, queue: str = "", concurrency: int = 64
    ) -> AsyncIterator[None]:
        """See the port."""
        inbox: Mailbox[_Envelope] = Mailbox(SERVE_PENDING_MAX)

        async def answer(envelope: _Envelope) -> None:
            data = await handler(envelope.message)
            _check_payload(data)
            if self._hub.up and envelope.reply is not None and not envelope.reply.done():
                envelope.reply.set_result(data)

        async with (
            answering(subject, inbox, answer, concurrency=concurrency),
            self._listening(subject, queue, inbox),
        ):
            yield

    @asynccontextmanager
    async def _listening(self, subject: str, queue: str, inbox: Mailbox[_Envelope]) -> AsyncIterator[None]:
        check_pattern(subject)
        self._check_up()
        async with self._hub.listening(subject, _Listener(queue, inbox, self)):
            yield

    async def _send(self, envelope: _Envelope) -> int:
        check_subject(envelope.message.subject)
        _check_payload(envelope.message.data)
        self._check_up()
        listeners = self._hub.deliver(envelope)
        # A party that only ever sends must not keep the others from running.
        await asyncio.sleep(0)
        return listeners

    def _check_up(self) -> None:
        if not self._hub.up:
            raise Unavailable("bus.disconnected", "The bus is not there.")


async def _messages(inbox: Mailbox[_Envelope]) -> AsyncIterator[Message]:
    async for envelope in inbox:
        yield envelope.message


def _check_payload(data: bytes) -> None:
    if len(data) > MESSAGE_BYTES_MAX:
        raise TooMuch("bus.payload", f"{len(data)} bytes are more than a message may have ({MESSAGE_BYTES_MAX}).")
