"""Orders at the door."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import ValidationError, convert

from fallow.domain.orders import ITEMS_MAX, Order

ID = "0123456789abcdef" * 2
HASH = "a" * 64


def data(**changes: Any) -> dict[str, Any]:
    return {"id": ID, "vertical": "compute", "work": {"kind": "wasm"}, **changes}


def test_the_least_that_is_an_order() -> None:
    order = convert(data(), Order)
    assert order.item_count == 1
    assert order.replicas == 1
    assert order.requirements.resources.cpu_milli == 1000
    assert order.budget_microusd is None


def test_a_map_has_as_many_items_as_inputs() -> None:
    assert convert(data(items=[HASH, HASH]), Order).item_count == 2
    assert convert(data(items=[HASH] * ITEMS_MAX), Order).item_count == ITEMS_MAX


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "0" * 31},
        {"id": "0" * 33},
        {"id": ID.upper()},
        {"id": "0" * 31 + "\n"},
        {"vertical": "Compute"},
        {"vertical": ""},
        {"work": None},
        {"work": []},
        {"items": ["a" * 63]},
        {"items": [HASH + "\n"]},
        {"items": [HASH] * (ITEMS_MAX + 1)},
        {"requirements": {"cpu_milli": 0}},
        {"requirements": {"cpu_milli": 1.5}},
        {"requirements": {"memory_mib": 1 << 31}},
        {"requirements": {"countries": ["jp"]}},
        {"requirements": {"tpus": 1}},
        {"max_price_microusd_per_hour": -1},
        {"budget_microusd": -1},
        {"budget_microusd": "1"},
        {"time_limit_s": 0},
        {"time_limit_s": 7 * 86_400 + 1},
        {"retries": 11},
        {"replicas": 0},
        {"replicas": 6},
        {"label": "x" * 81},
        {"label": "tab\t"},
        {"label": "\x1b[31m"},
        {"label": "line\n"},
        {"colour": "blue"},
    ],
)
def test_what_is_no_order_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        convert(data(**changes), Order)


@pytest.mark.parametrize("name", ["id", "vertical", "work"])
def test_what_an_order_cannot_do_without(name: str) -> None:
    order = data()
    del order[name]
    with pytest.raises(ValidationError, match=name):
        convert(order, Order)


@pytest.mark.parametrize("value", [None, [], "order", 7])
def test_other_things_are_no_orders(value: object) -> None:
    with pytest.raises(ValidationError):
        convert(value, Order)


def test_a_label_in_any_language() -> None:
    assert convert(data(label="夜の景色 — ø"), Order).label == "夜の景色 — ø"
