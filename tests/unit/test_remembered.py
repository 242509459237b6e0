"""What others said a moment ago: for how long, and how much of it."""

from __future__ import annotations

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
