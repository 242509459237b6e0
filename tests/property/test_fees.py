"""Whatever operators say, and whenever: no owner has less of a dollar than he was told a day before."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from fallow.domain.billing import FeePolicy
from fallow.domain.fees import FEE_MAX_PPM, Fees, FeeWord
from fallow.domain.words import NOTICE_MS

STEP_MS = NOTICE_MS // 4
SAID = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 8), st.integers(0, 5)), max_size=8)


@given(SAID)
@example([(0, 1, 0), (0, 4, 5), (1, 2, 1)])
def test_nobody_is_charged_more_than_he_was_told_within_a_day_of_being_told(said: list[tuple[int, int, int]]) -> None:
    fees, now = Fees(FeePolicy(fee_ppm=2)), 0
    told: list[tuple[int, Fees]] = [(0, Fees(fees.first))]
    for waited, ahead, fee_ppm in said:
        now += waited * STEP_MS
        word = FeeWord(now + ahead * STEP_MS, fee_ppm, 0)
        if not fees.too_soon(word, now):
            fees.words = [*fees.words, word]
            told.append((now, Fees(fees.first, fees.words)))
    for at, known in told:
        for moment in range(at, at + NOTICE_MS, STEP_MS):
            assert fees.at(moment).fee_ppm <= known.at(moment).fee_ppm


@given(SAID, st.integers(0, FEE_MAX_PPM))
def test_in_a_day_anything_may_hold_and_less_may_at_once(said: list[tuple[int, int, int]], fee_ppm: int) -> None:
    fees = Fees(words=[FeeWord(ahead * STEP_MS, fee, 0) for _, ahead, fee in said])
    assert not fees.too_soon(FeeWord(NOTICE_MS, fee_ppm, 0), 0)
    assert not fees.too_soon(FeeWord(0, 0, 0), 0)


@given(SAID, st.integers(0, 40))
def test_what_holds_next_is_what_will_hold_and_nothing_else_before(said: list[tuple[int, int, int]], at: int) -> None:
    fees = Fees(words=[FeeWord((waited + ahead) * STEP_MS, fee, 0) for waited, ahead, fee in said])
    now = fees.at(at * STEP_MS)
    later = [moment * STEP_MS for moment in range(at + 1, 60) if fees.at(moment * STEP_MS) != now]
    following = fees.following(at * STEP_MS)
    if not later:
        assert following is None
    else:
        policy = fees.at(later[0])
        assert following == (later[0], policy.fee_ppm, policy.reserve_ppm)
