"""What of the market's money is reserved, and what is not."""

from __future__ import annotations

import msgspec
import pytest

from fallow.services.market import money
from fallow.services.market.changes import Hold
from tests.unit.test_evictions import lease


@pytest.mark.parametrize(("charged_to", "parts"), [(b"", ((1, 500),)), (bytes(32), None)])
def test_a_check_that_nothing_is_counted_for_is_not_held_from_the_purse(
    charged_to: bytes, parts: tuple[tuple[int, int], ...] | None
) -> None:
    """Its twin, an order that somebody pays for himself, is held from what he has."""
    hold = Hold(msgspec.structs.replace(lease(1), charged_to=charged_to), 0, 500, None)
    assert money._parts_of(hold, {1: 1_000_000}) == parts
