"""How audits add up: Storj's numbers, warnings before penalties, and how soon what kind of loss is found."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.verticals.storage.core.auditing import AUDITS_A_DAY_MIN, answer_s, audits_a_day, drawn_chunk
from fallow.verticals.storage.core.proofs import chunks_of
from fallow.verticals.storage.core.reputation import (
    DAY_MS,
    ONLINE_GRACE_MS,
    UNKNOWN_GRACE_MS,
    WINDOW_MS,
    Change,
    Outcome,
    Reputation,
    judged,
)

HALF_HOUR_MS = 1_800_000


def played(
    outcomes: Iterable[Outcome], before: Reputation | None = None, every_ms: int = HALF_HOUR_MS, start_ms: int = DAY_MS
) -> tuple[Reputation, list[tuple[int, Change]]]:
    """Judge one outcome after the other; returns what changed, with the number of the outcome, from 1."""
    now, reputation, changes = start_ms, before or Reputation(), []
    for number, outcome in enumerate(outcomes, 1):
        reputation, news = judged(reputation, outcome, now)
        changes += [(number, change) for change in news]
        now += every_ms
        if reputation.disqualified_ms:
            break
    return reputation, changes


def kinds(changes: Iterable[tuple[int, Change]]) -> list[tuple[int, str, str]]:
    return [(number, change.kind, change.code) for number, change in changes]


def failing(rate: float, draw: random.Random) -> Iterable[Outcome]:
    for _ in range(10_000):
        yield "failed" if draw.random() < rate else "success"


def test_forty_one_failures_in_a_row_disqualify_and_the_second_and_twentieth_warn() -> None:
    _, changes = played(["failed"] * 100)
    code = "storage.audits_failed"
    assert kinds(changes) == [(2, "warning", code), (21, "warning", code), (41, "disqualified", code)]


@pytest.mark.parametrize(("rate", "audits"), [(0.05, 1600), (0.1, 510), (0.2, 224), (0.5, 84)])
def test_a_share_of_failures_disqualifies_after_as_many_audits_as_storj_says(rate: float, audits: int) -> None:
    ends = []
    for seed in range(30):
        _, changes = played(failing(rate, random.Random(seed)))
        number, last = changes[-1]
        assert last.kind == "disqualified"
        ends.append(number)
    assert 0.65 * audits < sorted(ends)[15] < 1.35 * audits


def test_a_warning_comes_before_every_penalty() -> None:
    for seed in range(30):
        draw = random.Random(seed)
        outcomes: list[Outcome] = ["success", draw.choice(["failed", "unknown", "offline"])]
        _, changes = played(outcomes[draw.random() < 0.7] for _ in range(3000))
        warned: set[str] = set()
        assert changes
        for _, change in changes:
            assert change.kind == "warning" or change.code in warned
            warned.add(change.code)


def test_who_fails_one_audit_in_a_thousand_is_never_disqualified() -> None:
    for seed in range(3):
        reputation, _ = played(failing(0.001, random.Random(seed)))
        assert reputation.standing == ""


def test_one_piece_a_day_that_readers_choose_disqualifies_nobody() -> None:
    chance: list[Outcome] = ["success"] * AUDITS_A_DAY_MIN
    day: list[Outcome] = ["failed", *chance]
    reputation, changes = played(day * 150, every_ms=DAY_MS // len(day))
    assert {change.kind for _, change in changes} == {"warning"}
    assert 0.975 < reputation.score < 0.985


@given(st.lists(st.sampled_from(["success", "failed", "unknown", "offline"]), max_size=200))
def test_scores_stay_scores_and_who_is_out_stays_out(outcomes: list[Outcome]) -> None:
    reputation, _ = played(outcomes)
    assert 0 <= reputation.score <= 1
    assert 0 <= reputation.unknown_score <= 1
    assert 0 <= reputation.online_score <= 1
    if reputation.disqualified_ms:
        assert judged(reputation, "success", 10 * DAY_MS) == (reputation, [])


def test_ten_unknown_errors_in_a_row_suspend_and_successes_bring_back() -> None:
    code = "storage.audits_unknown"
    suspended, changes = played(["unknown"] * 10)
    assert kinds(changes) == [(5, "warning", code), (10, "suspended", code)]
    assert suspended.standing == "suspended"
    back, changes = played(["success"] * 10, suspended)
    assert kinds(changes) == [(1, "reinstated", code)]
    assert back.standing == ""


def test_who_stays_suspended_for_more_than_a_week_is_disqualified() -> None:
    audits = UNKNOWN_GRACE_MS // HALF_HOUR_MS + 12
    reputation, changes = played(["unknown"] * audits)
    assert changes[-1][0] == audits - 1
    assert kinds(changes)[-1][1:] == ("disqualified", "storage.audits_unknown")
    assert reputation.standing == "disqualified"


def test_twelve_days_away_of_thirty_suspend_and_coming_back_is_enough() -> None:
    code = "storage.away"
    there, _ = played(["success"] * 60, every_ms=WINDOW_MS)
    away, changes = played(["offline"] * 25, there, WINDOW_MS, DAY_MS + 60 * WINDOW_MS)
    assert kinds(changes) == [(13, "warning", code), (25, "suspended", code)]
    assert away.score > 0.999
    back, changes = played(["success"] * 60, away, WINDOW_MS, DAY_MS + 85 * WINDOW_MS)
    assert [kind for _, kind, _ in kinds(changes)] == ["reinstated"]
    assert back.online_score == 1


def test_who_is_away_for_seven_weeks_counts_as_lost() -> None:
    reputation, changes = played(["offline"] * 200, every_ms=WINDOW_MS)
    assert kinds(changes)[-1][1:] == ("disqualified", "storage.away")
    assert reputation.disqualified_ms - reputation.away_since_ms > ONLINE_GRACE_MS
    assert reputation.disqualified_ms < 51 * DAY_MS


def test_windows_in_which_nobody_was_asked_count_for_nothing() -> None:
    reputation, _ = played(["success"] * 3, every_ms=10 * DAY_MS)
    reputation, _ = judged(reputation, "offline", 60 * DAY_MS)
    assert reputation.online_score == 0
    reputation, _ = judged(reputation, "success", 60 * DAY_MS)
    assert reputation.online_score == 0.5


def test_a_clock_that_goes_back_changes_no_window_before() -> None:
    reputation, _ = judged(Reputation(), "success", 10 * DAY_MS)
    reputation, _ = judged(reputation, "offline", 9 * DAY_MS)
    assert reputation.windows == [(20, 2, 1)]


def test_audits_keep_up_with_what_is_held() -> None:
    assert audits_a_day(0) == AUDITS_A_DAY_MIN == 48
    assert audits_a_day(10**13) == 248
    assert audits_a_day(10**15) == 480
    assert 1 - 0.9**48 > 0.993
    assert 1 - 0.96 ** (3 * 48) > 0.997
    assert 1 - 0.99 ** (7 * 48) > 0.965
    assert answer_s(2_400_000) == 21


@given(st.integers(0, 10**7), st.floats(0, 1, exclude_max=True))
def test_a_chunk_that_is_drawn_is_one_of_the_piece(length: int, drawn: float) -> None:
    assert 0 <= drawn_chunk(length, drawn) < chunks_of(length)
