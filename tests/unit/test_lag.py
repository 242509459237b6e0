"""The event loop's lag: what is counted when it is late."""

# ruff: noqa: D102

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from fallow.bootstrap.lag import LOOK_MS, LoopLag
from fallow.domain.calls.processes import LAG_BOUNDS_MS


class LateClock:
    """Each sleep takes as much longer as the next entry of `late_ms` says; then it is over."""

    def __init__(self, *late_ms: int) -> None:
        self._late_ms = list(late_ms)
        self._now_ms = 0

    def now_ms(self) -> int:
        return self._now_ms

    def monotonic_ms(self) -> int:
        return self._now_ms

    async def sleep(self, seconds: float) -> None:
        if not self._late_ms:
            raise asyncio.CancelledError
        self._now_ms += round(seconds * 1000) + self._late_ms.pop(0)


async def counted(*late_ms: int) -> dict[int | None, int]:
    lag = LoopLag(LateClock(*late_ms))
    with suppress(asyncio.CancelledError):
        await lag.run()
    bounds = [*LAG_BOUNDS_MS, None]
    return {bound: count for bound, count in zip(bounds, lag.counts, strict=True) if count}


async def test_looks_in_time_and_a_little_late() -> None:
    assert await counted(0, 0, 1, 2) == {1: 3, 2: 1}


async def test_a_standstill_counts_for_every_look_that_it_made_late() -> None:
    found = await counted(100)
    assert sum(found.values()) == 100 // LOOK_MS + 1
    assert found == {1: 1, 10: 1, 20: 1, 30: 1, 40: 1, 50: 1, 75: 2, 100: 3}


@pytest.mark.parametrize("late_ms", [LAG_BOUNDS_MS[-1] + 1])
async def test_beyond_the_last_bound(late_ms: int) -> None:
    assert (await counted(late_ms))[None] == 1
