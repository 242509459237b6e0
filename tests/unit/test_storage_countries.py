"""Countries by their codes."""

from __future__ import annotations

import pytest

from fallow.domain.errors import InvalidInput
from fallow.verticals.storage.core.countries import read_countries


def test_countries_are_read_in_whatever_case_and_order_and_once() -> None:
    assert read_countries([]) == []
    assert read_countries(["fr", "DE", "de"]) == ["DE", "FR"]


def test_the_european_union_stands_for_its_countries() -> None:
    union = read_countries(["EU"])
    assert len(union) == 27
    assert {"DE", "IE"} <= set(union)
    assert not {"EU", "GB", "CH", "NO"} & set(union)
    assert read_countries(["eu", "CH", "DE"]) == sorted([*union, "CH"])


@pytest.mark.parametrize("word", ["", "D", "DEU", "D1", "Germany", "DE\n", "de-fr"])
def test_what_is_no_code_is_refused(word: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_countries([word])
    assert caught.value.code == "storage.country"
