"""What a node is told of its incentive: the bound that it has reached, and what raises it."""

from __future__ import annotations

from typing import Any

import pytest

from fallow.cli.epoch_advice import advice_of
from fallow.domain.epochs.lines import Kept, Line, Money
from fallow.domain.epochs.rules import Rules

PAID = Money(2, bought=True, income=900, fee=100, reserve=0, refunded=0, made_good=0)
RULES = {"model": "work_only", "cap_ppm": 500_000}
PRICE = 10**18


def told(rules: dict[str, Any], price: int = PRICE, *, incentive: int = 50, **changed: Any) -> str:
    given: dict[str, Any] = {"units": 0, "score": 1_000_000, "usage": bytes(32), "verdicts": [], "ended": []}
    money = changed.pop("money", [PAID])
    fields = given | {"incentive": incentive.to_bytes(32), "money": money} | changed
    line = Line(vertical="compute", node=bytes(32), account=bytes(20), **fields)
    return "\n".join(advice_of(line, Rules(**rules), price))


@pytest.mark.parametrize(
    ("said", "rules", "changed"),
    [
        ("gives no incentives", {}, {}),
        ("No price", {"model": "burn_and_mint"}, {"price": 0, "incentive": 0}),
        ("no incentive to compute", RULES | {"weights": {"compute": 0}}, {"incentive": 0}),
        ("TEST credits", RULES, {"incentive": 0, "money": [PAID._replace(credit=1)]}),
        ("0.0001 USD of the fees came back", RULES, {"incentive": 0, "money": [PAID._replace(refunded=1000)]}),
        ("at its bound, 50 %", RULES, {}),
        ("gave 40 %", RULES, {"incentive": 20}),
        ("suspended", RULES, {"incentive": 0, "score": 0}),
        ("score is 50 %", RULES, {"incentive": 25, "score": 500_000}),
        (
            "forfeited (result.wrong)",
            RULES,
            {"kept": [Kept("usage", bytes(32), bytes(32), bytes(32), bytes(32), (7).to_bytes(32), "result.wrong")]},
        ),
    ],
)
def test_each_bound_is_named(said: str, rules: dict[str, Any], changed: dict[str, Any]) -> None:
    assert said in told(rules, **changed)


def test_lines_of_the_core_earn_nothing_and_are_told_nothing() -> None:
    line = Line("", bytes(32), b"", 0, 0, bytes(32), bytes(32), [], [], [])
    assert not list(advice_of(line, Rules(), 0))
