"""Keeps the node's ear on the bus: subscriptions that are opened again however often the link breaks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from fallow.domain.errors import Unavailable
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.mishaps import MISHAPS

RETRY_S = 1.0

_log = logging.getLogger(__name__)


class Listener:
    """`hears` is set once `subjects` subscriptions were open; `trouble` says why one is not."""

    def __init__(self, bus: Bus, clock: Clock, *, subjects: int) -> None:
        self.hears = asyncio.Event()
        self.trouble = ""
        self._bus = bus
        self._clock = clock
        self._subjects = subjects
        self._heard: set[str] = set()

    async def run(self, subject: str, take: Callable[[bytes], None]) -> None:
        """Hand each message's payload to `take`, until cancelled."""
        while True:
            try:
                async with self._bus.subscribe(subject) as messages:
                    self._opened(subject)
                    async for message in messages:
                        self._hand_on(subject, message.data, take)
            except Unavailable as error:
                if self.trouble != error.message:
                    _log.warning("not connected: %s", error)
                self.trouble = error.message
            await self._clock.sleep(RETRY_S)

    def _hand_on(self, subject: str, data: bytes, take: Callable[[bytes], None]) -> None:
        try:
            take(data)
        except Exception as error:  # noqa: BLE001 - one message that hits a bug must not end the agent
            MISHAPS.note(subject.rpartition(".")[2], error)

    def _opened(self, subject: str) -> None:
        self.trouble = ""
        self._heard.add(subject)
        if len(self._heard) >= self._subjects:
            self.hears.set()
