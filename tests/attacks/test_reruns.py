"""Cheats who do only work whose results nobody compares, on a network that knows no canary: re-runs hint at them.

The market's own matching and checking, 40 nodes of one class, 2,000 items of one program, three seeds a case. Each test
prints its rates with 95 % intervals; the table in the compute vertical's README is taken from here.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.attacks.cheating import NOISY, VERY_NOISY, Answer, Outcome, Rate, conspirator, honest, liar, run, unlike

NODES, ITEMS, PLANTED, SEEDS = 40, 2_000, 24, (1, 2, 3)


def play(
    name: str, cheats: Sequence[Answer], rest: Answer = honest, *, planted: int = 0, reruns: bool = True
) -> Outcome:
    """Play a case with all seeds and add the outcomes up."""
    answers = [*cheats, *[rest] * (NODES - len(cheats))]
    runs = [run(answers, ITEMS, seed, compares=False, planted=planted, reruns=reruns) for seed in SEEDS]

    def added(rates: Sequence[Rate]) -> Rate:
        return Rate(sum(rate.hits for rate in rates), sum(rate.cases for rate in rates))

    outcome = Outcome(
        added([one.wrong_accepted for one in runs]),
        added([one.lies_refused for one in runs]),
        added([one.honest_hit for one in runs]),
        sum(one.overhead for one in runs) / len(runs),
        sum(one.lies_paid_ms for one in runs),
        added([one.cheats_found for one in runs]),
        added([one.cheats_suspect for one in runs]),
        added([one.honest_suspect for one in runs]),
    )
    print(
        f"\n{name}: wrong results accepted {outcome.wrong_accepted}; cheats suspect {outcome.cheats_suspect}, found"
        f" {outcome.cheats_found}; honest nodes suspect {outcome.honest_suspect}, hit {outcome.honest_hit};"
        f" extra leases {outcome.overhead:.1%}"
    )
    return outcome


def test_honest_nodes_of_a_program_that_repeats_itself_are_never_suspect() -> None:
    outcome = play("honest only, run again", [])
    assert outcome.honest_suspect.hits == 0
    assert outcome.overhead < 0.12  # one in ten results, fewer as trust grows


def test_who_always_lies_is_suspect_soon_and_gets_no_more_of_the_program() -> None:
    without = play("4 lone liars, always, never run again", [liar(1.0)] * 4, reruns=False)
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
