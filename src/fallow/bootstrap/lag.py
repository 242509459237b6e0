"""How late a process's event loop is: what a request waits for beside the work that it is about."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fallow.domain import calls
from fallow.domain.calls.processes import LAG_BOUNDS_MS
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.mishaps import MISHAPS
from fallow.ports.rpc import Empty, serve
from fallow.ports.tasks import background

LOOK_MS = 10


class LoopLag:
    """A histogram since the start: `counts[i]` looks were late by up to `LAG_BOUNDS_MS[i]`, the last ones by more."""

    def __init__(self, clock: Clock) -> None:
        self.counts = [0] * (len(LAG_BOUNDS_MS) + 1)
        self._clock = clock

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            due = self._clock.monotonic_ms() + LOOK_MS
            await self._clock.sleep(LOOK_MS / 1000)
            self._note(self._clock.monotonic_ms() - due)

    def _note(self, late_ms: int) -> None:
        """Count a look, and those that were due while the loop did not come round to them."""
        for late in range(max(0, late_ms), -1, -LOOK_MS):
            self.counts[bisect_left(LAG_BOUNDS_MS, late)] += 1


@asynccontextmanager
async def measured_lag(role: str, bus: Bus, clock: Clock) -> AsyncIterator[LoopLag]:
    """Measure this process's loop while the context is open, and tell whoever asks on the role's subject.

    Whoever asks is told what failed in it, too (`fallow.ports.mishaps`).
    """
    lag = LoopLag(clock)

    async def answer(_: Empty) -> Sequence[int]:
        return lag.counts

    async def failed(_: Empty) -> dict[str, int]:
        return MISHAPS.counts()

    async with (
        background(lag.run()),
        serve(bus, calls.processes.lag(role), Empty, answer, queue=role),
        serve(bus, calls.processes.mishaps(role), Empty, failed, queue=role),
    ):
        yield lag
