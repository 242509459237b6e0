"""What use costs does not depend on how it is cut, and never exceeds what was reserved for it."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.billing import HOUR_MS, PPM, Charge, FeePolicy, charge, cumulative_charge, deposit
from fallow.domain.errors import InvalidInput

PRICES = st.one_of(st.integers(0, 10**7), st.integers(0, 10**27))
TIMES = st.one_of(st.integers(0, 10_000), st.integers(0, HOUR_MS))
METERS = st.one_of(st.just(0), st.integers(0, 10**10), st.integers(0, 10**40))
PPMS = st.one_of(st.sampled_from([0, 1, 100_000, 333_333, PPM - 1, PPM]), st.integers(0, PPM))
POLICIES = st.builds(FeePolicy, fee_ppm=PPMS, reserve_ppm=PPMS)


def charges(meter: int, uses: list[tuple[int, int]], policy: FeePolicy) -> tuple[int, list[Charge]]:
    made: list[Charge] = []
    for price, used_ms in uses:
        meter, owed = charge(meter, price, used_ms, policy)
        made.append(owed)
    return meter, made


@given(meter=METERS, price=PRICES, cuts=st.lists(TIMES, min_size=2, max_size=30), policy=POLICIES)
def test_cutting_use_into_windows_changes_no_sum(meter: int, price: int, cuts: list[int], policy: FeePolicy) -> None:
    times = sorted(cuts)
    windows = [(price, end - start) for start, end in pairwise(times)]
    cut_meter, cut = charges(meter, windows, policy)
    whole_meter, (whole,) = charges(meter, [(price, times[-1] - times[0])], policy)
    assert cut_meter == whole_meter
    assert Charge(*(sum(part) for part in zip(*cut, strict=True))) == whole


@given(meter=METERS, price=PRICES, used_ms=TIMES, more_ms=TIMES, policy=POLICIES)
def test_a_deposit_covers_every_charge_for_its_window(
    meter: int, price: int, used_ms: int, more_ms: int, policy: FeePolicy
) -> None:
    _, owed = charge(meter, price, used_ms, policy)
    assert owed.total <= deposit(price, used_ms) <= deposit(price, used_ms + more_ms)


@given(meter=METERS, uses=st.lists(st.tuples(PRICES, TIMES), max_size=20), policy=POLICIES)
def test_no_part_of_a_charge_is_negative(meter: int, uses: list[tuple[int, int]], policy: FeePolicy) -> None:
    _, made = charges(meter, uses, policy)
    assert all(part >= 0 for owed in made for part in owed)
    assert all(owed.total == sum(owed) for owed in made)


@given(meter=METERS, uses=st.lists(st.tuples(PRICES, TIMES, POLICIES), min_size=1, max_size=20))
def test_where_the_fee_changes_sums_stay_and_each_change_shifts_fee_and_reserve_by_less_than_a_unit(
    meter: int, uses: list[tuple[int, int, FeePolicy]]
) -> None:
    begun, fee, reserve, exact_fee, exact_reserve = meter, 0, 0, Fraction(), Fraction()
    for price, used_ms, policy in uses:
        before = meter // HOUR_MS
        meter, owed = charge(meter, price, used_ms, policy)
        assert all(part >= 0 for part in owed)
        assert owed.total == meter // HOUR_MS - before
        fee, reserve = fee + owed.fee + owed.reserve, reserve + owed.reserve
        exact_fee += Fraction(owed.total * policy.fee_ppm, PPM)
        exact_reserve += Fraction(owed.total * policy.fee_ppm * policy.reserve_ppm, PPM**2)
    runs = 1 + sum(one[2] != other[2] for one, other in pairwise(uses))
    assert abs(fee - exact_fee) < runs
    assert abs(reserve - exact_reserve) < 2 * runs
    assert meter == begun + sum(price * used_ms for price, used_ms, _ in uses)


@given(uses=st.lists(st.tuples(PRICES, TIMES), min_size=1, max_size=20), policy=POLICIES)
def test_fee_and_reserve_are_floored_once_over_all_use(uses: list[tuple[int, int]], policy: FeePolicy) -> None:
    meter, made = charges(0, uses, policy)
    total = sum(price * used_ms for price, used_ms in uses) // HOUR_MS
    fee = total * policy.fee_ppm // PPM
    reserve = fee * policy.reserve_ppm // PPM
    assert Charge(*(sum(part) for part in zip(*made, strict=True))) == (total - fee, fee - reserve, reserve)
    assert cumulative_charge(meter, policy) == (total - fee, fee - reserve, reserve)


def test_exact_beyond_every_float() -> None:
    price = 10**27 + 1
    meter, owed = charge(HOUR_MS - 1, price, HOUR_MS, FeePolicy())
    assert meter == price * HOUR_MS + HOUR_MS - 1
    assert owed == Charge(900000000000000000000000001, 80000000000000000000000000, 20000000000000000000000000)
    assert deposit(price, HOUR_MS) == price
    assert deposit(price, 1) == price // HOUR_MS + 1


@pytest.mark.parametrize(("price", "used_ms"), [(-1, 1), (1, -1)])
def test_negative_prices_and_times_are_refused(price: int, used_ms: int) -> None:
    with pytest.raises(InvalidInput) as caught:
        charge(0, price, used_ms, FeePolicy())
    assert caught.value.code == "billing.negative"
