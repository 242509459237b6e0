"""What subscriptions are told of, by what their window may still cost."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.subscriptions import Price
from fallow.verticals.storage.control.bills import Line, fitting
from fallow.verticals.storage.core.tariff import EGRESS, STORED, TARIFF

AMOUNT = st.integers(0, 10**12)


lines = st.lists(st.tuples(st.sampled_from([STORED, EGRESS]), AMOUNT, AMOUNT, AMOUNT), max_size=12).map(
    lambda rows: [
        Line(bytes([at]), meter, fresh, counted + more, counted)
        for at, (meter, fresh, counted, more) in enumerate(rows)
    ]
)


def total(line: Line, quantity: int, tariff: Mapping[str, Price] = TARIFF) -> int:
    price = tariff[line.meter]
    return price.microusd * quantity // price.per


DEAR = {meter: Price(microusd=price.microusd * 7, per=price.per) for meter, price in TARIFF.items()}
FREE_TO_READ = {**TARIFF, EGRESS: Price(microusd=0)}


@given(lines, st.integers(0, 10**7), st.sampled_from([TARIFF, DEAR, FREE_TO_READ]))
def test_all_that_fits_is_told_and_else_the_window_is_used_up_to_the_last(
    lines: list[Line], left: int, tariff: Mapping[str, Price]
) -> None:
    told = fitting(lines, tariff, left)
    assert all(line.counted < quantity <= line.told + line.fresh for line, quantity in told)
    cost = sum(total(line, quantity, tariff) - total(line, line.counted, tariff) for line, quantity in told)
    whole = sum(total(line, line.told + line.fresh, tariff) - total(line, line.counted, tariff) for line in lines)
    assert cost == min(whole, left)
    if whole <= left:
        assert [quantity for _, quantity in told] == [
            line.told + line.fresh for line in lines if line.told + line.fresh > line.counted
        ]


def test_a_limit_below_the_number_of_payees_is_used_as_well() -> None:
    many = [Line(bytes([number]), STORED, 10**12, 0, 0) for number in range(80)]
    told = fitting(many, TARIFF, 50)
    assert sum(total(line, quantity) for line, quantity in told) == 50


def test_what_does_not_fit_is_shared_by_what_each_is_owed() -> None:
    payees = [Line(b"a", EGRESS, 3 * 10**12, 0, 0), Line(b"b", EGRESS, 10**12, 0, 0)]
    (_, first), (_, second) = fitting(payees, TARIFF, 4000)
    assert abs(first - 3 * second) < 10**6
