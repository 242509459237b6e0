"""Comparing two books item by item, against sets."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.reconciling import Item, beyond, differences

KEYS = st.binary(min_size=1, max_size=1)
ITEMS = st.builds(Item, KEYS, st.integers(0, 2), st.sampled_from([b"", b"w"]), st.booleans())
BOOK = st.lists(ITEMS, max_size=30).map(lambda items: sorted({item.key: item for item in items}.values()))


@given(BOOK, st.lists(ITEMS, max_size=30).map(sorted))
def test_what_differs_is_what_sets_say(here: list[Item], there: list[Item]) -> None:
    ours, theirs = {item.key: item for item in here}, {item.key: item for item in reversed(there)}
    expected = Counter(item.key.hex() + ".unfounded" for item in here if item.due and item.key not in theirs)
    for key, other in theirs.items():
        mine = ours.get(key)
        if mine is None:
            expected[key.hex() + ".missing"] += other.due
        else:
            expected[key.hex() + ".differs"] += (mine.amount, mine.who) != (other.amount, other.who)
    for key, count in Counter(item.key for item in there).items():
        expected[key.hex() + ".repeated"] += count - 1
    found = Counter(one.subject + one.code for one in differences("", here, there))
    assert found == +expected


@given(BOOK, BOOK)
def test_what_is_beyond_is_what_is_more(taken: list[Item], allowed: list[Item]) -> None:
    most = {item.key: item.amount for item in allowed}
    found = [one.subject for one in beyond("claim", taken, allowed)]
    assert found == [item.key.hex() for item in taken if item.amount > most.get(item.key, 0)]
