"""Python's search for cycles: what it passes over, and what it finds all the same."""

# ruff: noqa: D102

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

from fallow.bootstrap.garbage import FULL_EVERY_MS, MUCH, short_collections


class Cycle:
    """Only itself holds it."""

    def __init__(self) -> None:
        self.itself = self


class StepClock:
    """Each sleep waits for `step`."""

    def __init__(self) -> None:
        self.now = 0
        self.asleep = asyncio.Event()
        self._steps: asyncio.Queue[int] = asyncio.Queue()

    def now_ms(self) -> int:
        return self.now

    def monotonic_ms(self) -> int:
        return self.now

    async def sleep(self, _: float) -> None:
        self.asleep.set()
        self.now += await self._steps.get()

    async def step(self, ms: int) -> None:
        await self.asleep.wait()
        self.asleep.clear()
        self._steps.put_nowait(ms)
        await self.asleep.wait()


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    gc.enable()
    gc.freeze()  # what tests/conftest.py had set aside


async def test_what_has_outlived_a_second_is_set_aside_until_the_hour() -> None:
    gc.disable()  # nothing is searched but by what is tested
    gc.collect()
    clock, kept = StepClock(), Cycle()
    gone = weakref.ref(kept)
    async with short_collections(clock):
        await clock.step(1_000)
        assert gc.get_freeze_count() > 1_000
        del kept
        gc.collect()
        assert gone() is not None  # the search passes it over
        await clock.step(FULL_EVERY_MS)
        assert gone() is None
    assert gc.get_freeze_count() == 0


async def test_what_is_young_and_held_by_cycles_alone_goes_at_once() -> None:
    gc.disable()
    clock = StepClock()
    async with short_collections(clock):
        await clock.step(1_000)
        gone = weakref.ref(Cycle())
        await clock.step(1_000)
        assert gone() is None


async def test_much_that_comes_at_once_is_set_aside_without_a_look() -> None:
    gc.disable()
    clock = StepClock()
    async with short_collections(clock):
        assert not gc.isenabled()  # nothing is searched in between
        await clock.step(1_000)
        gone, much = weakref.ref(Cycle()), [[number] for number in range(2 * MUCH)]
        await clock.step(1_000)
        assert gone() is not None
        assert len(much) == 2 * MUCH
        await clock.step(FULL_EVERY_MS)
        assert gone() is None
    assert gc.isenabled()
