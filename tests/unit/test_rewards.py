"""Rewards by known numbers: those of the networks whose rules they are, and of OpenZeppelin's own library."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fallow.domain.epochs.lines import USAGE
from fallow.domain.errors import InvalidInput, NotFound, Unavailable
from fallow.domain.rewards import tree as trees
from fallow.domain.rewards.oracle import Guard, Quote, credits_for, tokens_for
from fallow.domain.rewards.schedules import (
    HalvingByDate,
    HalvingByIssuance,
    Held,
    NetEmissions,
    YearlyDecay,
    coverage_ppm,
)
from fallow.domain.rewards.split import delegated, split
from fallow.domain.rewards.tree import Leaf, build_tree, proof_of, proves, root_of

RAO = 10**9
STORJ = [*[750_000] * 3, *[500_000] * 3, *[250_000] * 3]
BITTENSOR = HalvingByIssuance(cap=21_000_000 * RAO, base=RAO)
VECTORS = json.loads(Path(__file__).with_name("rewards_vectors.json").read_text())


@pytest.mark.parametrize(
    ("issued", "mints"),
    [
        (0, RAO),
        (10_500_000 * RAO - 1, RAO),
        (10_500_000 * RAO, RAO // 2),
        (15_749_999 * RAO, RAO // 2),
        (15_750_000 * RAO, RAO // 4),
        (18_375_000 * RAO, RAO // 8),
        (19_687_500 * RAO, RAO // 16),
        (20_343_750 * RAO, RAO // 32),
        (21_000_000 * RAO, 0),
    ],
)
def test_a_block_mints_by_what_is_there(issued: int, mints: int) -> None:
    assert BITTENSOR.a_block(issued) == mints


def test_a_day_before_and_after_the_first_halving() -> None:
    assert BITTENSOR.blocks(10_000_000 * RAO, 7200) == 7200 * RAO
    assert BITTENSOR.blocks(10_500_000 * RAO, 7200) == 3600 * RAO
    assert BITTENSOR.blocks(10_500_000 * RAO - 1000 * RAO, 7200) == 1000 * RAO + 3100 * RAO


def test_a_year_of_decay() -> None:
    """Render's growth phase keeps 945 thousandths of the pool before."""
    decay = YearlyDecay(first_year=760_567, keep_ppm=945_000, epochs_a_year=12)
    assert [decay.until(12 * year) for year in range(4)] == [0, 760_567, 760_567 + 718_735, 760_567 + 718_735 + 679_204]
    assert sum(decay.epoch(number) for number in range(12)) == 760_567


def test_halving_by_date() -> None:
    """Helium's schedule in HNT a day with 8 decimals, halved after two years."""
    schedule = HalvingByDate(base=4_109_589_000_000, period=730)
    assert [schedule.epoch(day) for day in (0, 729, 730, 1460)] == [
        4_109_589_000_000,
        4_109_589_000_000,
        2_054_794_500_000,
        1_027_397_250_000,
    ]


def test_burned_tokens_come_back_under_a_cap() -> None:
    emissions = NetEmissions(cap=1644)
    assert emissions.epoch(700, 700) == (700, 700)
    assert emissions.epoch(700, 7700) == (1700, 1644)
    assert emissions.epoch(700, 0) == (600, 600)


def test_held_back_as_storj_does() -> None:
    held = Held(withheld_ppm=STORJ, step=30, release=3)
    withheld = [held.withhold(30 * month, USAGE, 100) for month in range(11)]
    assert withheld == [75, 75, 75, 50, 50, 50, 25, 25, 25, 0, 0]
    assert [held.withhold(day, USAGE, 100) for day in (29, 89, 90, 269, 270)] == [75, 75, 50, 25, 0]
    assert [held.released(day, 450) for day in (269, 270, 271, 272, 999)] == [0, 150, 300, 450, 450]
    assert Held(withheld_ppm=STORJ, parts="incentive").withhold(0, USAGE, 100) == 0


def test_what_is_left_goes_to_the_largest_remainders_then_to_the_first() -> None:
    assert split(10, [1, 1, 1]) == [4, 3, 3]
    assert split(11, [1, 1, 1]) == [4, 4, 3]
    assert split(100, [333, 333, 334]) == [33, 33, 34]
    assert split(7, [0, 0]) == [0, 0]
    assert split(10**27, [1, 2]) == [333333333333333333333333333, 666666666666666666666666667]
    with pytest.raises(InvalidInput):
        split(-1, [1])


def test_an_operator_takes_from_what_delegations_earned() -> None:
    """Bittensor's delegates take 18 % by default."""
    assert delegated(1000, 180_000, 500, [300, 200]) == (500 + 54 + 36, [246, 164])
    assert delegated(1000, 180_000, 0, []) == (1000, [])


def test_what_a_network_earned_and_minted() -> None:
    assert coverage_ppm(250, 1000) == 250_000
    assert coverage_ppm(250, 0) is None


GUARD = Guard(sources_min=3, age_max_ms=600_000, jump_max_ppm=200_000)


def quotes(*prices: int, at_ms: int = 1_000_000) -> list[Quote]:
    return [Quote(f"source {number}", at_ms, price) for number, price in enumerate(prices)]


def test_the_median_of_fresh_prices() -> None:
    assert GUARD.price(quotes(5, 1_000_000, 7), 1_000_000, 7) == 7
    assert GUARD.price(quotes(5, 6, 7, 8), 1_000_000, None) == 6


def test_a_source_that_is_unsure_counts_for_less() -> None:
    assert GUARD.price([*quotes(100, 100), Quote("unsure", 1_000_000, 100, doubt=10)], 1_000_000, None) == 100
    unsure = [quote._replace(doubt=10) for quote in quotes(100, 100, 100)]
    assert GUARD.price(unsure, 1_000_000, None) == 80


def test_one_source_counts_once() -> None:
    many = [Quote("one", 1_000_000 - age, 50) for age in range(5)]
    with pytest.raises(Unavailable, match="1 sources"):
        GUARD.price(many, 1_000_000, 50)


@pytest.mark.parametrize("at_ms", [399_999, 1_000_001], ids=["stale", "of the future"])
def test_a_price_of_another_time_does_not_count(at_ms: int) -> None:
    with pytest.raises(Unavailable) as refused:
        GUARD.price(quotes(5, 6, 7, at_ms=at_ms), 1_000_000, 6)
    assert refused.value.code == "oracle.stale"


@pytest.mark.parametrize(("median", "holds"), [(120, True), (121, False), (80, True), (79, False)])
def test_a_jump_stops_it(median: int, holds: bool) -> None:
    given = quotes(median, median, median)
    if holds:
        assert GUARD.price(given, 1_000_000, 100) == median
        return
    with pytest.raises(Unavailable) as refused:
        GUARD.price(given, 1_000_000, 100)
    assert (refused.value.code, "from 0.0001 USD to" in refused.value.message) == ("oracle.jump", True)


def test_burning_for_credits_gives_no_more_than_it_is_worth() -> None:
    price = 123_457
    burned = tokens_for(1_000_000, price)
    assert 1_000_000 - 1 <= credits_for(burned, price) <= 1_000_000
    with pytest.raises(InvalidInput):
        credits_for(0, price)


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case["name"])
def test_roots_and_proofs_of_openzeppelins_library(case: dict[str, object]) -> None:
    entries = [Leaf(bytes.fromhex(a), bytes.fromhex(t), int(n)) for a, t, n in case["entries"]]  # type: ignore[attr-defined]
    tree = build_tree(entries)
    assert root_of(tree).hex() == case["root"]
    proofs = [[node.hex() for node in proof_of(tree, leaf)] for leaf in entries]
    assert proofs == case["proofs"]


def test_a_leaf_that_is_not_there_has_no_proof() -> None:
    entries = [Leaf(bytes([number]) * 20, bytes(20), number) for number in range(1, 8)]
    tree = build_tree(entries)
    with pytest.raises(NotFound):
        proof_of(tree, Leaf(bytes([1]) * 20, bytes(20), 2))
    assert not proves(root_of(tree), entries[0], proof_of(tree, entries[1]))


@pytest.mark.parametrize("leaf", [Leaf(bytes(19), bytes(20), 1), Leaf(bytes(20), bytes(20), 1 << 256)])
def test_what_does_not_encode_is_refused(leaf: Leaf) -> None:
    with pytest.raises(InvalidInput):
        build_tree([leaf])


def test_a_tree_that_is_hashed_in_pieces_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [Leaf(number.to_bytes(20), bytes(20), number) for number in range(1, 100)]
    whole = build_tree(entries)
    monkeypatch.setattr(trees, "CHUNK_NODES", 4)
    assert build_tree(entries) == whole
