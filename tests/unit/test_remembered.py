"""What others said a moment ago: for how long, and how much of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from fallow.ports.remembered import MOMENT_MS, Remembered
from tests.unit.agent_fakes import FakeClock


def test_what_was_said_is_known_for_a_moment() -> None:
    clock = FakeClock()
    known = Remembered[str, int](clock, 2)
    assert known.recall("a") is None
    assert known.keep("a", 1) == 1
    clock.ms += MOMENT_MS - 1
    assert known.recall("a") == 1
    clock.ms += 1
    assert known.recall("a") is None


def test_what_was_said_longest_ago_is_forgotten_first() -> None:
    known = Remembered[str, int](FakeClock(), 2)
    for key in ("a", "b", "a", "c"):
        known.keep(key, ord(key))
    assert [known.recall(key) for key in "abc"] == [97, None, 99]


def test_what_is_no_more_so_is_forgotten() -> None:
    known = Remembered[str, int](FakeClock(), 9)
    for key in "abc":
        known.keep(key, ord(key))
    known.drop("a")
    known.drop("nobody")
    known.forget(lambda said: said == ord("b"))
    assert [known.recall(key) for key in "abc"] == [None, None, 99]


def saying(said: int) -> Callable[[], Awaitable[int]]:
    async def say() -> int:
        return said

    return say


async def test_a_moment_begins_when_it_is_asked_for_however_long_the_answer_takes() -> None:
    clock = FakeClock()
    known = Remembered[str, int](clock, 9)

    async def slow() -> int:
        clock.ms += MOMENT_MS - 1
        return 1

    assert await known.ask("a", slow) == 1
    assert await known.ask("a", saying(2)) == 1
    clock.ms += 1
    assert await known.ask("a", saying(2)) == 2


@pytest.mark.parametrize("forget", [lambda known: known.drop("a"), lambda known: known.forget(lambda _: True)])
async def test_an_answer_during_which_something_was_forgotten_is_not_remembered(
    forget: Callable[[Remembered[str, int]], None],
) -> None:
    known, late = Remembered[str, int](FakeClock(), 9), asyncio.Event()

    async def slow() -> int:
        await late.wait()
        return 1

    async with asyncio.TaskGroup() as group:
        asking = group.create_task(known.ask("a", slow))
        await asyncio.sleep(0)
        forget(known)
        late.set()
    assert asking.result() == 1
    assert await known.ask("a", saying(2)) == 2
