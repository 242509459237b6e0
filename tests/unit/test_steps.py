"""The work of roll calls: what is shown must be what was done, by this node, for this call."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.domain.encoding import decode, encode
from fallow.domain.errors import Unavailable
from fallow.ports.vertical.capacity import Claim, Exercise
from fallow.verticals.compute.core.capacity import SHOWN, StepCapacity, Steps
from fallow.verticals.compute.core.steps import step
from fallow.verticals.compute.worker.exertion import exert
from fallow.verticals.compute.worker.lanes import work

CHALLENGE, NODE = b"c" * 32, b"n" * 32
CHECK = StepCapacity()
VALUES = [step(CHALLENGE, NODE, number) for number in range(7)]


def claim(steps: Steps, *, units: int | None = None, challenge: bytes = CHALLENGE, node: bytes = NODE) -> Claim:
    return Claim(challenge, node, steps.units if units is None else units, steps.commitment)


@pytest.mark.parametrize("count", range(1, 8))
def test_each_step_can_be_shown(count: int) -> None:
    steps = Steps(VALUES[:count])
    for number in range(count):
        assert CHECK.holds(claim(steps), [number], steps.show([number]))
    drawn = CHECK.wanted(count, b"chance")
    assert len(drawn) == SHOWN
    assert CHECK.holds(claim(steps), drawn, steps.show(drawn))


def test_nothing_was_done_and_nothing_is_shown() -> None:
    steps = Steps([])
    assert CHECK.wanted(0, b"chance") == []
    assert CHECK.holds(claim(steps), [], steps.show([]))


def test_what_another_node_did_or_for_another_call_is_nothing() -> None:
    steps = Steps(VALUES)
    shown = steps.show([3])
    assert not CHECK.holds(claim(steps, node=b"m" * 32), [3], shown)
    assert not CHECK.holds(claim(steps, challenge=b"d" * 32), [3], shown)


def test_a_step_stands_for_its_own_number_only() -> None:
    """One right step, written everywhere: its place in the tree gives it away."""
    steps = Steps([VALUES[0]] * 7)
    assert CHECK.holds(claim(steps), [0], steps.show([0]))
    assert not any(CHECK.holds(claim(steps), [number], steps.show([number])) for number in range(1, 7))
    honest = Steps(VALUES)
    assert not any(CHECK.holds(claim(honest), [number], honest.show([0])) for number in range(1, 7))


def test_more_than_was_done_cannot_be_claimed() -> None:
    steps = Steps(VALUES)
    assert not CHECK.holds(claim(steps, units=14), [9], steps.show([9]))  # it has nothing to show
    padded = Steps([*VALUES, *[b"x" * 32] * 7])
    assert not CHECK.holds(claim(padded), [9], padded.show([9]))
    assert not CHECK.holds(claim(padded), [3, 9], padded.show([3]))


@given(st.data())
@settings(max_examples=60)
def test_whatever_else_is_shown_does_not_hold(data: st.DataObject) -> None:
    steps = Steps(VALUES)
    shown = bytearray(steps.show([5]))
    place = data.draw(st.integers(0, len(shown) - 1))
    shown[place] ^= data.draw(st.integers(1, 255))
    assert not CHECK.holds(claim(steps), [5], bytes(shown)) or decode(bytes(shown)) == decode(steps.show([5]))


@given(st.binary(max_size=40))
def test_nonsense_does_not_hold(data: bytes) -> None:
    assert not CHECK.holds(claim(Steps(VALUES)), [5], data)


@pytest.mark.parametrize("shown", [[], [1], [[1, 2]], [[b"x", [[1]]]], [["x", []]], [[None, [[True, 5]]]], {"a": 1}])
def test_other_shapes_do_not_hold(shown: object) -> None:
    assert not CHECK.holds(claim(Steps(VALUES)), [5], encode(shown))


def test_lanes_do_consecutive_steps_of_this_very_call() -> None:
    values = work(CHALLENGE, NODE, 1500, 0.05)
    assert values
    assert values[:7] == VALUES[: len(values)]


async def test_a_process_of_its_own_does_them() -> None:
    effort = await exert(Exercise(CHALLENGE, NODE, 1000, 100, asyncio.Event()))
    assert effort.units > 0
    assert CHECK.holds(Claim(CHALLENGE, NODE, effort.units, effort.commitment), [0], effort.show([0]))


async def test_it_ends_at_once_when_the_machine_is_needed() -> None:
    cancel = asyncio.Event()
    asyncio.get_running_loop().call_soon(cancel.set)
    with pytest.raises(Unavailable):
        await exert(Exercise(CHALLENGE, NODE, 1000, 600_000, cancel))
