"""A bus that can be used before it is there: an agent must start, and answer its owner, without a network."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fallow.domain.errors import NotAllowed, Unavailable
from fallow.ports.bus import Bus, Handler, Message
from fallow.ports.clock import Clock

RETRY_FIRST_S = 0.5
RETRY_MAX_S = 15.0
# A refusal seldom changes soon; but a network that is just starting refuses too.
REFUSED_RETRY_S = 5.0

_log = logging.getLogger(__name__)

Connect = Callable[[], AbstractAsyncContextManager[Bus]]


class LateBus:
    """The `Bus` port; Unavailable until `hold` has connected, then what it connected to."""

    def __init__(self, connect: Connect, clock: Clock) -> None:
        self._connect = connect
        self._clock = clock
        self._bus: Bus | None = None
        self._trouble = "Not connected yet."

    async def hold(self) -> None:
        """Connect, and stay connected until cancelled."""
        failures = 0
        while True:
            try:
                async with self._connect() as bus:
                    self._bus = bus
                    await asyncio.Event().wait()
            except Unavailable as error:
                self._note(str(error))
                await self._clock.sleep(min(RETRY_MAX_S, RETRY_FIRST_S * 2.0 ** min(failures, 8)))
            except NotAllowed as error:
                self._note(str(error))
                await self._clock.sleep(REFUSED_RETRY_S)
            finally:
                self._bus = None
            failures += 1

    async def publish(self, subject: str, data: bytes) -> None:
        """See the port."""
        await self._there().publish(subject, data)

    async def request(self, subject: str, data: bytes, *, timeout_s: float) -> bytes:
        """See the port."""
        return await self._there().request(subject, data, timeout_s=timeout_s)

    @asynccontextmanager
    async def subscribe(
        self, subject: str, *, queue: str = "", pending_max: int = 1024
    ) -> AsyncIterator[AsyncIterator[Message]]:
        """See the port; Unavailable also when not connected yet."""
        async with self._there().subscribe(subject, queue=queue, pending_max=pending_max) as messages:
            yield messages

    @asynccontextmanager
    async def serve(
        self, subject: str, handler: Handler, *, queue: str = "", concurrency: int = 64
    ) -> AsyncIterator[None]:
        """See the port; Unavailable also when not connected yet."""
        async with self._there().serve(subject, handler, queue=queue, concurrency=concurrency):
            yield

    def _there(self) -> Bus:
        if self._bus is None:
            raise Unavailable("bus.disconnected", self._trouble)
        return self._bus

    def _note(self, trouble: str) -> None:
        if trouble != self._trouble:
            _log.warning("not connected: %s", trouble)
        self._trouble = trouble
