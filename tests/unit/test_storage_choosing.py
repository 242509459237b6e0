"""Where pieces go, by the rules alone."""

from __future__ import annotations

import random
from collections import Counter
from itertools import combinations
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.errors import Unavailable
from fallow.verticals.storage.control.choosing import UNASKED, draw, enough_of, place, spare_of
from fallow.verticals.storage.control.reading import spans, stripes_bytes, wanted
from fallow.verticals.storage.control.segments import SegmentRow
from fallow.verticals.storage.core.durability import monthly
from fallow.verticals.storage.core.layout import BLOCK_BYTES, SHARE_BYTES, Layout
from fallow.verticals.storage.core.profiles import LAB, PROFILES, SMALL, WIDE

ROOM = 10**9


class Candidate(NamedTuple):
    """See `choosing.Candidate`."""

    alias: int
    account: bytes
    network: str
    country: str
    room_bytes: int


nodes = st.lists(
    st.tuples(st.integers(1, 6), st.integers(1, 6), st.sampled_from(["", "DE", "FR"]), st.integers(0, 3)), max_size=10
).map(
    lambda rows: [
        Candidate(alias, bytes([owner]), str(network), country, room * ROOM)
        for alias, (owner, network, country, room) in enumerate(rows, 1)
    ]
)


def most(candidates: list[Candidate]) -> int:
    """How many fit, found by trying all."""
    roomy = [one for one in candidates if one.room_bytes]
    for size in range(len(roomy), 0, -1):
        for some in combinations(roomy, size):
            if len({one.account for one in some}) == size == len({one.network for one in some}):
                return size
    return 0


def network(owners: int, *, country: str = "") -> list[Candidate]:
    return [Candidate(n, n.to_bytes(20), str(n), country, ROOM) for n in range(1, owners + 1)]


@given(nodes, st.integers(1, 12), st.randoms(use_true_random=False))
def test_never_two_of_one_owner_or_network_and_as_many_as_there_are(
    candidates: list[Candidate], count: int, rng: random.Random
) -> None:
    drawn = draw(candidates, count, rng.random)
    assert len({one.account for one in drawn}) == len({one.network for one in drawn}) == len(drawn)
    assert len({one.alias for one in drawn}) == len(drawn)
    assert all(one.room_bytes > 0 for one in drawn)
    assert len(drawn) == min(count, most(candidates))


@given(st.sets(st.sampled_from(["DE", "FR", "IT"])), st.randoms(use_true_random=False))
def test_pieces_stay_in_the_countries_of_their_bucket(countries: set[str], rng: random.Random) -> None:
    spread = [one._replace(country=("DE", "FR", "IT", "")[one.alias % 4]) for one in network(60)]
    placed = place(spread, "lab", countries, 1000, rng.random)
    assert not countries or {one.country for one in placed.nodes} <= countries


def test_owners_that_share_networks_still_find_all_the_places_there_are() -> None:
    mesh = [
        Candidate(owner * 10 + other, bytes([owner]), str(other), "", ROOM) for owner in range(8) for other in range(8)
    ]
    for seed in range(50):
        assert len(draw(mesh, 8, random.Random(seed).random)) == 8


def test_room_draws_more_pieces() -> None:
    rng = random.Random(1)
    candidates = [one._replace(room_bytes=ROOM * (1 + 3 * (one.alias <= 10))) for one in network(40)]
    drawn = Counter(one.alias <= 10 for _ in range(2000) for one in draw(candidates, 1, rng.random))
    assert 0.53 < drawn[True] / 2000 < 0.61  # 40 of 70 parts


@pytest.mark.parametrize(
    ("owners", "asked", "profile", "named"),
    [
        (8, "", LAB, 8),
        (9, "", LAB, 9),
        (99, "", LAB, 10),
        (100, "", WIDE, 96),
        (25, "small", SMALL, 24),
        (100, "lab", LAB, 10),
    ],
)
def test_who_asks_for_nothing_gets_the_widest_that_there_are_nodes_for(
    owners: int, asked: str, profile: object, named: int
) -> None:
    placed = place(network(owners), asked, (), 1000, random.Random(2).random)
    assert (placed.profile, len(placed.nodes)) == (profile, named)


def test_a_network_that_grows_never_keeps_less_for_it() -> None:
    for churn in (monthly(0.01, 1.0), monthly(0.1, 1.0), monthly(0.1, 7.0), monthly(0.3, 1.0)):
        losses = [profile.annual_loss(churn) for profile in UNASKED]
        assert losses == sorted(losses)


def test_a_profile_that_was_asked_for_is_not_made_narrower() -> None:
    with pytest.raises(Unavailable, match=r"24 nodes .* small needs 25"):
        place(network(24), "small", (), 1000, random.Random(3).random)
    with pytest.raises(Unavailable, match=r"7 nodes .* in DE; the profile lab needs 8"):
        place(network(7, country="DE") + network(5), "", ("DE",), 1000, random.Random(3).random)


def test_a_node_without_room_for_the_piece_is_left_out() -> None:
    size = Layout(1000, LAB.needed).piece_bytes
    tight = [one._replace(room_bytes=size - (one.alias == 1)) for one in network(9)]
    placed = place(tight, "lab", (), 1000, random.Random(4).random)
    assert sorted(one.alias for one in placed.nodes) == list(range(2, 10))


def test_enough_is_more_than_where_repair_begins_and_less_than_all() -> None:
    assert {name: enough_of(one) for name, one in PROFILES.items()} == {"lab": 7, "small": 19, "wide": 55}
    assert {name: spare_of(one) for name, one in PROFILES.items()} == {"lab": 2, "small": 4, "wide": 16}
    assert all(one.repair < enough_of(one) < one.pieces for one in PROFILES.values())


@given(st.data(), st.sampled_from([4, 16, 29]), st.integers(1, 1024 * BLOCK_BYTES))
def test_what_is_limited_is_enough_for_each_piece_of_a_range(data: st.DataObject, needed: int, payload: int) -> None:
    layout = Layout(payload, needed)
    start = data.draw(st.integers(0, payload - 1))
    stop = data.draw(st.integers(start + 1, payload))
    sealed = range(start // BLOCK_BYTES * SHARE_BYTES, min(-(-stop // BLOCK_BYTES) * SHARE_BYTES, layout.sealed_bytes))
    by_piece: Counter[int] = Counter()
    for one in layout.where(sealed.start, sealed.stop):
        by_piece[one.piece] += one.stop - one.start
    limit = stripes_bytes(layout, start, stop)
    assert max(by_piece.values()) <= limit <= layout.piece_bytes
    assert limit - max(by_piece.values()) <= 2 * SHARE_BYTES


@given(
    st.lists(st.lists(st.integers(1, 9), max_size=4), min_size=1, max_size=5),
    st.integers(0, 60),
    st.integers(0, 60),
    st.integers(1, 8),
)
def test_a_range_names_the_segments_that_hold_it_in_their_order(
    sizes: list[list[int]], start: int, length: int, limit: int
) -> None:
    parts = [(number, sum(several)) for number, several in enumerate(sizes, 1)]
    stop = min(start + length, sum(size for _, size in parts))
    laid = [
        (SegmentRow(bytes([part, number]), part, number, size, b"", "lab", []), sum(several[:number]))
        for part, several in enumerate(sizes, 1)
        for number, size in enumerate(several)
    ]
    at, expected = 0, []
    for row, _ in laid:
        if max(at, start) < min(at + row.payload, stop):
            expected.append((row.id, at))
        at += row.payload
    asked = spans(parts, start, stop, limit)
    found = wanted(asked, laid, limit)
    assert [(one.segment.id, one.start) for one in found] == expected[:limit]
    if 0 < len(expected) <= limit:
        missing = [(row, where) for row, where in laid if row.id != expected[-1][0]]
        with pytest.raises(Unavailable):
            wanted(asked, missing, limit)
