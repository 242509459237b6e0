"""Cheats who do only work whose results nobody compares, on a network that knows no canary: re-runs hint at them.

The market's own matching and checking, 40 nodes of one class, 2,000 items of one program, three seeds a case. Each test
prints its rates with 95 % intervals; the table in the compute vertical's README is taken from here.
"""

from __future__ import annotations

from functools import partial

from tests.attacks import cheating
from tests.attacks.cheating import NOISY, VERY_NOISY, conspirator, liar, unlike

PLANTED = 24
without_reruns = partial(cheating.play, compares=False)
play = partial(without_reruns, reruns=True)


def test_honest_nodes_of_a_program_that_repeats_itself_are_never_suspect() -> None:
    outcome = play("honest only, run again", [])
    assert outcome.honest_suspect.hits == 0
    assert outcome.overhead < 0.12  # one in ten results, fewer as trust grows


def test_who_always_lies_is_suspect_soon_and_gets_no_more_of_the_program() -> None:
    without = without_reruns("4 lone liars, always, never run again", [liar(1.0)] * 4)
    outcome = play("4 lone liars, always", [liar(1.0)] * 4)
    assert outcome.cheats_suspect.interval[0] > 0.7
    assert outcome.wrong_accepted.interval[1] < without.wrong_accepted.interval[0] / 2
    assert outcome.honest_suspect.interval[1] < 0.06
    # A hint proves nothing: without a canary nobody's standing has changed.
    assert outcome.cheats_found.hits == outcome.honest_hit.hits == 0


def test_who_lies_now_and_then_is_suspect_late() -> None:
    outcome = play("4 lone liars, 30 %", [liar(0.3)] * 4)
    assert outcome.wrong_accepted.interval[1] < 0.03  # of the 3 % that they would give
    assert outcome.honest_suspect.interval[1] < 0.06


def test_even_many_liars_make_no_honest_node_suspect() -> None:
    outcome = play("12 lone liars, always", [liar(1.0)] * 12)
    assert outcome.cheats_suspect.interval[0] > 0.7
    assert outcome.honest_suspect.hits == 0


def test_a_conspiracy_is_suspect_as_liars_are() -> None:
    outcome = play("4 conspirators of 40, always the same lie", [conspirator(1.0)] * 4)
    assert outcome.cheats_suspect.interval[0] > 0.5
    assert outcome.honest_suspect.interval[1] < 0.06


def test_a_program_that_never_repeats_itself_is_left_alone() -> None:
    outcome = play("honest only, the program differs each time", [], unlike)
    assert outcome.honest_suspect.hits == outcome.honest_hit.hits == 0
    assert outcome.overhead < 0.02


def test_a_program_that_differs_now_and_then_harms_nobody() -> None:
    outcome = play("honest only, the program differs one time in ten", [], NOISY)
    assert outcome.honest_suspect.interval[1] < 0.08
    assert outcome.honest_hit.hits == 0
    half = play("honest only, the program differs half of the time", [], VERY_NOISY)
    assert half.honest_suspect.hits == half.honest_hit.hits == 0
    assert half.overhead < 0.15


def test_canaries_find_whom_re_runs_hint_at() -> None:
    outcome = play("4 lone liars, always, with canaries", [liar(1.0)] * 4, planted=PLANTED)
    assert outcome.cheats_found.hits == outcome.cheats_found.cases
    assert outcome.honest_hit.hits == 0
