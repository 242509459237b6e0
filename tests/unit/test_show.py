"""Lists of nodes: in pages that fit into a message, whatever nodes say of themselves."""

from __future__ import annotations

import msgspec

from fallow.domain.resources import Resources
from fallow.domain.views.nodes import NodeView
from fallow.services.market.show import first_of


def view(number: int, says: str = "") -> NodeView:
    """A node that says something of itself."""
    nothing = Resources(cpu_milli=0, memory_mib=0, disk_mib=0)
    return NodeView(
        node=f"{number:064x}",
        label="",
        account="0x" + "00" * 20,
        state="idle",
        total=nothing,
        free=nothing,
        terms=None,
        attributes={"says": says},
        country="",
        trust="new",
        confirmed=0,
        wrong=0,
        leases=0,
        last_seen_at=0,
    )


def test_a_page_ends_where_a_message_would_be_full() -> None:
    views = [view(number, "x" * 200) for number in range(100)]
    shown = list(first_of(views, 10_000))
    assert shown == views[: len(shown)]
    assert len(msgspec.json.encode(shown)) <= 10_000 + 2 * len(shown)
    assert len(msgspec.json.encode(views[: len(shown) + 1])) > 10_000


def test_who_says_too_much_does_not_hide_who_comes_after() -> None:
    views = [view(0, "x" * 2000), view(1)]
    assert list(first_of(views, 1000)) == views[:1]
    assert list(first_of(views[1:], 1000)) == views[1:]


def test_all_are_shown_where_they_fit() -> None:
    views = [view(number) for number in range(5)]
    assert list(first_of(views, 1 << 19)) == views
