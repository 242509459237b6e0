"""Which pieces count, how long a segment has, and which sources are not what was stored."""

from __future__ import annotations

import random
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.errors import Conflict
from fallow.verticals.storage.coding.agreeing import altered
from fallow.verticals.storage.coding.code import Code
from fallow.verticals.storage.control.health import Whereabouts
from fallow.verticals.storage.control.scanning import endangered
from fallow.verticals.storage.core.calls.segments import Plan
from fallow.verticals.storage.core.endangered import LOSS_PER_DAY, days_to_loss
from fallow.verticals.storage.core.layout import Layout
from fallow.verticals.storage.core.profiles import LAB, SMALL, WIDE, Profile
from tests.repair_world import payload_of, pieces_of


class At(NamedTuple):
    """See `health.Holder`."""

    alias: int
    account: bytes
    network: str
    country: str = ""


def alone(count: int) -> list[At]:
    """Nodes of distinct owners on distinct networks."""
    return [At(alias, bytes([alias]), f"net {alias}") for alias in range(1, count + 1)]


def test_a_piece_counts_where_its_node_is_there() -> None:
    known = Whereabouts(alone(8))
    assert known.healthy([1, 2, 3, 8]) == 4
    assert known.healthy([1, 0, 9, 8]) == 2
    assert known.counted([1, 0, 9, 8]) == [0, 3]


def test_pieces_of_one_owner_or_on_one_network_count_once() -> None:
    known = Whereabouts(
        [At(1, b"a", "x"), At(2, b"a", "y"), At(3, b"b", "z"), At(4, b"c", "z"), At(5, b"d", ""), At(6, b"e", "")]
    )
    assert (known.healthy([1, 2]), known.healthy([3, 4]), known.healthy([5, 6])) == (1, 1, 1)
    assert known.counted([1, 2, 3, 4, 5, 6]) == [0, 2, 4]


def test_pieces_outside_of_the_bucket_s_countries_do_not_count() -> None:
    known = Whereabouts([At(1, b"a", "x", "DE"), At(2, b"b", "y", "FR"), At(3, b"c", "z")])
    assert known.healthy([1, 2, 3], {"DE", "FR"}) == 2
    assert known.counted([1, 2, 3], {"DE"}) == [0]
    assert known.healthy([1, 2, 3]) == 3
    assert known.is_abroad([1, 2, 3], {"DE", "FR"}), "an owner who says nothing is in none of them"
    assert not known.is_abroad([1, 2, 4, 0], {"DE", "FR"}), "what is lost lies nowhere"
    assert not known.is_abroad([1, 2, 3], ())


placed = st.lists(st.tuples(st.binary(max_size=1), st.sampled_from("xyz")), max_size=8)


@given(placed)
def test_no_more_can_stay_than_count_and_none_that_stay_are_together(where: list[tuple[bytes, str]]) -> None:
    nodes = [At(alias, owner, network) for alias, (owner, network) in enumerate(where, 1)]
    known, aliases = Whereabouts(nodes), [one.alias for one in nodes]
    stay = [nodes[number] for number in known.counted(aliases)]
    assert len({one.account for one in stay}) == len({one.network for one in stay}) == len(stay)
    assert known.at_least(aliases) <= len(stay) <= known.healthy(aliases)
    assert bool(stay) == bool(nodes)


@pytest.mark.parametrize(("healthy", "days"), [(34, 3154), (40, 5385)])
def test_days_are_those_that_storj_s_queue_has(healthy: int, days: int) -> None:
    assert round(days_to_loss(Profile("storj", 29, 35, 80, 110), healthy, 24_000)) == days


@pytest.mark.parametrize("profile", [LAB, SMALL, WIDE])
def test_fewer_pieces_have_fewer_days(profile: Profile) -> None:
    days = [days_to_loss(profile, healthy, 1000) for healthy in range(profile.pieces + 1)]
    assert days[: profile.needed] == [0.0] * profile.needed
    assert days[profile.needed - 1 :] == sorted(set(days))


def test_days_are_what_leaving_nodes_take_in_a_simulation() -> None:
    draw, nodes, healthy, runs = random.Random(1), 40, 6, 4000
    waited = 0
    for _ in range(runs):
        order, left = draw.sample(range(nodes), nodes), healthy
        for gone, node in enumerate(order, 1):
            left -= node < healthy
            if left < LAB.needed:
                waited += gone
                break
    days = waited / runs / (nodes * LOSS_PER_DAY)
    assert days_to_loss(LAB, healthy, nodes) == pytest.approx(days, rel=0.03)


def test_segments_at_the_threshold_are_found_by_their_profile() -> None:
    known = Whereabouts(alone(20))
    rows = [
        {"id": b"1" * 16, "bucket": 1, "profile": "lab", "nodes": [1, 2, 3, 4, 5, 6, 21, 0]},
        {"id": b"2" * 16, "bucket": 1, "profile": "lab", "nodes": [1, 2, 3, 4, 5, 6, 7, 0]},
        {"id": b"3" * 16, "bucket": 1, "profile": "small", "nodes": [*range(1, 19), 21, 22]},
        {"id": b"4" * 16, "bucket": 2, "profile": "small", "nodes": [*range(1, 21)]},
    ]
    assert [one.segment[:1] for one in endangered(rows, known, {})] == [b"1", b"3"]
    assert [one.healthy for one in endangered(rows, known, {2: {"DE"}})] == [6, 18, 0]


# Sources


def pieces(profile: Profile, payload: bytes) -> dict[int, memoryview]:
    """All pieces of a segment."""
    plan = Plan(segment=b"s" * 16, needed=profile.needed, pieces=profile.pieces, enough=0, places=[])
    return {number: memoryview(bytearray(piece)) for number, piece in enumerate(pieces_of(plan, payload))}


@pytest.mark.parametrize("profile", [LAB, SMALL, WIDE])
@pytest.mark.parametrize("place", ["first", "last"])
def test_one_altered_byte_shows_with_two_more_pieces_than_needed(profile: Profile, place: str) -> None:
    payload = payload_of(100_000)
    code, layout = Code(profile.needed, profile.pieces), Layout(len(payload), profile.needed)
    some = dict([*pieces(profile, payload).items()][1 : profile.needed + 3])
    assert altered(code, layout, some) == frozenset()
    wrong = min(some) if place == "first" else max(some)
    some[wrong][-1] ^= 1
    assert altered(code, layout, some) == {wrong}


def test_with_one_more_it_shows_that_but_not_which_and_with_none_nothing() -> None:
    payload = payload_of(10_000)
    code, layout = Code(4, 8), Layout(len(payload), 4)
    some = dict([*pieces(LAB, payload).items()][2:7])
    some[3][0] ^= 1
    with pytest.raises(Conflict) as error:
        altered(code, layout, some)
    assert error.value.code == "storage.altered"
    del some[6]
    assert altered(code, layout, some) == frozenset()


def test_all_eight_show_two_that_are_altered() -> None:
    payload = payload_of(10_000)
    some = pieces(LAB, payload)
    some[0][5] ^= 1
    some[6][5] ^= 1
    assert altered(Code(4, 8), Layout(len(payload), 4), some) == {0, 6}


def test_all_eighty_show_some_that_are_altered_wherever_these_are() -> None:
    payload = payload_of(1000)
    code, layout = Code(WIDE.needed, WIDE.pieces), Layout(len(payload), WIDE.needed)
    for wrong in ({0, 1}, {78, 79}, set(range(0, 20, 4)), {5, 6, 7, 8, 30, 41, 60}):
        some = pieces(WIDE, payload)
        for number in wrong:
            some[number][3] ^= 1
        assert altered(code, layout, some) == wrong
