"""Whatever operators say of tariffs: a new subscription never pays owners less than they were told a day before."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from fallow.domain.subscriptions import Price
from fallow.domain.tariffs import Tariffs, TariffWord, falls
from fallow.domain.words import NOTICE_MS

STEP_MS = NOTICE_MS // 4
A, B = "storage", "links"
PRICES = st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(1, 3))
SAID = st.lists(st.tuples(st.sampled_from([A, B]), st.integers(0, 3), st.integers(0, 8), PRICES), max_size=8)


def tariff(stored: int, egress: int, per: int = 1) -> dict[str, Price]:
    """The same price may be said of more at once."""
    return {"stored": Price(microusd=stored * per, per=per), "egress": Price(microusd=egress, per=1)}


FIRST = {A: tariff(2, 2), B: tariff(1, 3)}


@given(SAID)
@example([(A, 0, 1, (3, 3, 1)), (A, 0, 4, (3, 1, 1)), (A, 1, 2, (2, 3, 2)), (B, 0, 0, (0, 0, 1))])
def test_no_owner_earns_less_by_a_new_subscription_than_he_was_told_within_a_day_of_being_told(
    said: list[tuple[str, int, int, tuple[int, int, int]]],
) -> None:
    tariffs, now = Tariffs(FIRST), 0
    told: list[tuple[int, Tariffs]] = [(0, Tariffs(FIRST))]
    for vertical, waited, ahead, prices in said:
        now += waited * STEP_MS
        word = TariffWord(now + ahead * STEP_MS, vertical, tariff(*prices))
        if not tariffs.too_soon(word, now):
            tariffs.words = [*tariffs.words, word]
            told.append((now, Tariffs(FIRST, tariffs.words)))
    for at, known in told:
        for moment in range(at, at + NOTICE_MS, STEP_MS):
            for vertical in FIRST:
                assert not falls(known.at(vertical, moment), tariffs.at(vertical, moment))


@given(SAID, PRICES)
def test_in_a_day_anything_may_hold_and_what_asks_no_less_may_at_once(
    said: list[tuple[str, int, int, tuple[int, int, int]]], prices: tuple[int, int, int]
) -> None:
    words = [TariffWord(ahead * STEP_MS, vertical, tariff(*each)) for vertical, _, ahead, each in said]
    tariffs = Tariffs(FIRST, words)
    assert not tariffs.too_soon(TariffWord(NOTICE_MS, A, tariff(*prices)), 0)
    assert not tariffs.too_soon(TariffWord(0, A, tariff(4, 4)), 0)


@given(SAID, st.integers(0, 40))
def test_what_holds_next_is_what_will_hold_and_no_word_on_another_vertical_changes_it(
    said: list[tuple[str, int, int, tuple[int, int, int]]], at: int
) -> None:
    words = [TariffWord((waited + ahead) * STEP_MS, of, tariff(*each)) for of, waited, ahead, each in said]
    tariffs = Tariffs(FIRST, words)
    alone = Tariffs(FIRST, [word for word in words if word.vertical == A])
    now = tariffs.at(A, at * STEP_MS)
    assert now == alone.at(A, at * STEP_MS)
    later = [moment * STEP_MS for moment in range(at + 1, 60) if tariffs.at(A, moment * STEP_MS) != now]
    following = tariffs.following(A, at * STEP_MS)
    assert following == (TariffWord(later[0], A, tariffs.at(A, later[0])) if later else None)


def test_a_meter_that_a_later_version_added_costs_what_the_version_says_and_one_that_is_gone_nothing() -> None:
    words = [TariffWord(0, A, {"stored": Price(microusd=7), "gone": Price(microusd=9)})]
    assert Tariffs(FIRST, words).at(A, 0) == {"stored": Price(microusd=7), "egress": Price(microusd=2)}
    assert Tariffs(FIRST, words).at("compute", 0) == {}, "it sells nothing by the meter"
