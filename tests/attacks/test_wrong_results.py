"""Cheating providers: how many wrong results get through, how many lies are refused, whom it hits.

The market's own matching and checking, 40 nodes, 2,000 items, three seeds a case. Each test prints its rates with
95 % intervals; the table in the compute vertical's README is taken from here.
"""

from __future__ import annotations

import pytest

from tests.attacks.cheating import SEEDS, conspirator, liar, play, run, sleeper


def test_honest_nodes_are_never_hit_and_cost_little_more_than_their_work() -> None:
    outcome = play("honest only", [])
    assert outcome.wrong_accepted.hits == 0
    assert outcome.honest_hit.hits == 0
    # Ten checks for each of 40 new nodes, two nodes a check, and spot checks afterwards.
    assert outcome.overhead < 0.25


@pytest.mark.parametrize("liars", [1, 4, 12])
def test_who_always_lies_alone_gets_nothing_through(liars: int) -> None:
    outcome = play(f"{liars} lone liars, always", [liar(1.0)] * liars)
    assert outcome.wrong_accepted.hits == 0
    assert outcome.honest_hit.hits == 0
    # Not refused are only items on which too many liars met, each with another story: no majority, inconclusive.
    assert outcome.lies_refused.hits > 0.85 * outcome.lies_refused.cases


def test_who_lies_seldom_is_found_by_spot_checks() -> None:
    outcome = play("4 lone liars, 10 %", [liar(0.1)] * 4)
    assert outcome.honest_hit.hits == 0
    assert outcome.wrong_accepted.interval[1] < 0.02
    assert outcome.lies_refused.hits > 0


def test_who_waits_for_trust_before_lying_loses_it_soon() -> None:
    outcome = play("4 sleepers, always once trusted", [sleeper(1.0)] * 4)
    assert outcome.honest_hit.hits == 0
    # From trust on every result is checked with a chance of 1 in 10: some ten lies of each of 4 cheats get through in
    # each of the three runs. The spread of twelve such draws is a third of that.
    assert outcome.wrong_accepted.hits < 12 * 10 * 2
    assert outcome.lies_refused.hits >= len(SEEDS) * 2


def test_a_colluding_minority_gets_little_through() -> None:
    outcome = play("4 conspirators of 40, always the same lie", [conspirator(1.0)] * 4)
    assert outcome.wrong_accepted.interval[1] < 0.01
    assert outcome.lies_refused.interval[0] > 0.3


def test_who_shares_a_line_never_confirms() -> None:
    # Twelve owners on paper, one in truth: from three lines in ten such a crowd would win many items.
    outcome = play("12 conspirators of 40 on one network, always the same lie", [conspirator(1.0)] * 12, one_line=True)
    assert outcome.wrong_accepted.hits == 0
    assert outcome.honest_hit.hits == 0
    assert outcome.lies_refused.hits == outcome.lies_refused.cases


def test_a_program_that_differs_on_purpose_harms_no_provider() -> None:
    # Every run gives something else, as a buyer's program does that looks at what it should not.
    outcome = run([liar(1.0)] * 10, 50, seed=1)
    assert outcome.lies_refused.hits == 0
