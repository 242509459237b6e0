"""A node's reputation: it is earned one result at a time, lost at once, and the same for whoever adds it up."""

from __future__ import annotations

from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.canaries import canary_one_in
from fallow.domain.verification import (
    NEW,
    OWN,
    PROVEN,
    SUSPENDED,
    SUSPENDED_MS,
    SUSPENSIONS_MAX,
    TRUSTED_AFTER,
    VOUCHED,
    Standing,
    after,
    checked_one_in,
    suspended_until,
    trust,
)

START, STEP_MS = 1_700_000_000_000, 60_000
FAR = START + (1 << 50)
verdicts = st.lists(st.booleans(), max_size=60)


def told(history: list[bool], start: Standing = Standing()) -> Standing:  # noqa: B008 - immutable
    """Fold verdicts, one a minute."""
    steps = enumerate(history, 1)
    return reduce(lambda standing, step: after(standing, START + step[0] * STEP_MS, right=step[1]), steps, start)


def streak(history: list[bool]) -> int:
    """Right results since the last wrong one."""
    return next((back for back, right in enumerate(reversed(history)) if not right), len(history))


@given(verdicts)
def test_trust_is_ten_right_results_in_a_row_and_nothing_else(history: list[bool]) -> None:
    assert trust(told(history), FAR) == (PROVEN if streak(history) >= TRUSTED_AFTER else NEW)


@given(verdicts)
def test_who_is_vouched_for_is_believed_until_a_wrong_result_and_then_once_he_has_proven_himself(
    history: list[bool],
) -> None:
    earned = all(history) or streak(history) >= TRUSTED_AFTER
    assert trust(told(history), FAR, vouched=True) == (VOUCHED if earned else NEW)
    assert trust(told(history), FAR, vouched=True, own=True) == OWN
    assert trust(told([*history, False]), START + 1, vouched=True, own=True) == SUSPENDED


@given(verdicts)
def test_one_wrong_result_takes_all_of_it(history: list[bool]) -> None:
    fallen = told([*history, False])
    assert fallen.confirmed == 0
    assert checked_one_in(fallen) == 1
    assert trust(fallen, FAR) == NEW


@given(verdicts, verdicts)
def test_it_can_be_added_up_in_parts(first: list[bool], second: list[bool]) -> None:
    at_once = told(first + second)
    in_parts = told(second, told(first))
    assert (at_once.confirmed, at_once.wrong) == (in_parts.confirmed, in_parts.wrong)


@given(verdicts.filter(lambda history: not all(history)))
def test_each_wrong_result_costs_four_times_as_long_up_to_a_bound(history: list[bool]) -> None:
    standing = told(history)
    assert standing.wrong_at is not None
    wrong = history.count(False)
    lasts_ms = SUSPENDED_MS * 4 ** min(wrong - 1, SUSPENSIONS_MAX)
    assert suspended_until(standing) == standing.wrong_at + lasts_ms
    assert trust(standing, standing.wrong_at + lasts_ms - 1) == SUSPENDED
    assert trust(standing, standing.wrong_at + lasts_ms) != SUSPENDED


@given(verdicts)
def test_right_results_shorten_no_suspension(history: list[bool]) -> None:
    fallen = told([*history, False])
    assert suspended_until(told([True] * 20, fallen)) == suspended_until(fallen)


@given(verdicts)
def test_nobody_is_ever_left_unwatched(history: list[bool]) -> None:
    standing = told(history)
    assert 1 <= checked_one_in(standing) <= max(1, len(history))
    assert TRUSTED_AFTER <= canary_one_in(standing) <= max(TRUSTED_AFTER, len(history))
