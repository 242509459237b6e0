"""What the explorer shows of others: nothing without a source and a date, and nothing in one tongue alone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.test_docs import ROOT

ROWS: list[dict[str, Any]] = json.loads((ROOT / "web/src/data/sector.json").read_text("utf-8"))
DATE = re.compile(r"20\d\d(-(0[1-9]|1[0-2]|Q[1-4]))?(/20\d\d(-(0[1-9]|1[0-2]|Q[1-4]))?)?")
ARTICLE = "DePIN の台頭 (industry article, early 2026)"
"""The one source of which no address is known."""


def faults(claim: dict[str, Any]) -> Iterator[str]:
    """Return what keeps a claim from being shown."""
    if not DATE.fullmatch(claim.get("date", "")):
        yield "date"
    source = claim.get("source", {})
    if not source.get("name"):
        yield "source"
    url = source.get("url")
    if not (isinstance(url, str) and url.startswith("https://")) and source.get("name") != ARTICLE:
        yield "address"
    per = claim.get("per")
    told = [claim.get("figure", {}), *([per["unit"], per["how"]] if per else [])]
    if not all(text.get("en") and text.get("ja") for text in told):
        yield "tongue"
    if per and not (per["usd"] > 0 and per["months"] > 0 and per["units"] > 0):
        yield "per"


def test_each_figure_and_what_disputes_it_has_a_source_and_a_date() -> None:
    assert len({row["id"] for row in ROWS}) == len(ROWS) > 20
    found = {row["id"]: [*faults(row), *(one for each in row["disputed"] for one in faults(each))] for row in ROWS}
    assert {name: list(faulty) for name, faulty in found.items() if faulty} == {}
    assert {row["kind"] for row in ROWS} == {"network", "field"}


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"date": ""}, "date"),
        ({"date": "soon"}, "date"),
        ({"source": {}}, "source"),
        ({"source": {"name": "somebody", "url": None}}, "address"),
        ({"source": {"name": "somebody", "url": "http://plain.example"}}, "address"),
        ({"figure": {"en": "1"}}, "tongue"),
    ],
)
def test_a_row_that_lacks_either_is_refused(changes: dict[str, Any], fault: str) -> None:
    assert list(faults(ROWS[0])) == []
    assert fault in list(faults(ROWS[0] | changes))


@pytest.mark.parametrize(
    ("row", "usd"), [("aethir-revenue", 32.17), ("grass", 0.32), ("helium", 9.64), ("storj", 0.52)]
)
def test_amounts_per_unit_are_computed_from_the_figures_beside_them(row: str, usd: float) -> None:
    (per,) = (each["per"] for each in ROWS if each["id"] == row)
    assert per["usd"] / per["months"] / per["units"] == pytest.approx(usd, abs=0.005)
