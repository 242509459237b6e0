"""What everybody may ask for and takes a walk over all nodes: it is made again and again, and never by who asks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from fallow.ports.clock import Clock
from fallow.ports.tasks import within

Made = TypeVar("Made")

RESTS = 9
"""It rests so many times as long as it took: of many nodes it takes a tenth of a processor, and is older instead."""

REST_MAX_MS = 30_000
"""It rests no longer: how long it took says, beside other work, how long it waited, too."""

FIRST_S = 5.0
"""So long the first one is waited for."""


class Rollup(Generic[Made]):
    """The latest of what `make` makes, which it is told the time for, in milliseconds since 1970."""

    def __init__(self, make: Callable[[int], Awaitable[Made]], every_ms: int, clock: Clock) -> None:
        self._make = make
        self._every_ms = every_ms
        self._clock = clock
        self._made: Made
        self._there = asyncio.Event()

    async def run(self) -> None:
        """Make it, until cancelled: every so often, or as rarely as `RESTS` and `REST_MAX_MS` say."""
        while True:
            began = self._clock.monotonic_ms()
            self._made = await self._make(self._clock.now_ms())
            self._there.set()
            took = self._clock.monotonic_ms() - began
            await self._clock.sleep(max(self._every_ms, min(RESTS * took, REST_MAX_MS)) / 1000)

    async def latest(self) -> Made:
        """Return it; only the first one is waited for, and not for ever: who stops leading makes none.

        Raises:
            Unavailable: it is not there yet (`timeout`).
        """
        if not self._there.is_set():
            await within(self._clock, FIRST_S, self._waited())
        return self._made

    async def _waited(self) -> None:
        await self._there.wait()
