"""Who is asked first, and why the others are not."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.matching import BUSY, Place, Wish, candidates, obstacles, rank, same_model, why_not
from fallow.domain.orders import Order, Requirements
from fallow.domain.resources import GIB_MIB, Resources, Terms

BIG = Resources(cpu_milli=4000, memory_mib=4096, disk_mib=1000)
NODE = bytes(32)


def place(number: int = 0, price: int = 100, **fields: Any) -> Place:
    defaults: dict[str, Any] = {
        "node": bytes([number]) * 32,
        "here": True,
        "suspended": False,
        "total": BIG,
        "free": BIG,
        "terms": Terms(price_microusd_per_core_hour=price),
        "attributes": {"compute.wasm": "1"},
        "country": "JP",
        "trust": "new",
    }
    return Place(**{**defaults, **fields})


def wish(max_price: int = 10**9, needs: dict[str, str] | None = None, **fields: Any) -> Wish:
    return Wish(Requirements(**fields), needs or {}, max_price)


@pytest.mark.parametrize(
    ("place_", "wish_", "names"),
    [
        (place(), wish(), ()),
        (place(here=False), wish(), ("offline",)),
        (place(suspended=True), wish(), ("suspended",)),
        (place(), wish(cpu_milli=4001), ("cpu",)),
        (place(), wish(memory_mib=4097), ("memory",)),
        (place(), wish(disk_mib=1001), ("disk",)),
        (place(), wish(cpu_milli=4000, memory_mib=4096, disk_mib=1000), ()),
        (place(), wish(countries=["DE", "FR"]), ("country",)),
        (place(), wish(countries=["DE", "JP"]), ()),
        (place(country=""), wish(countries=["DE"]), ("country",)),
        (place(), wish(nodes_allowed=["ff" * 32]), ("not_allowed",)),
        (place(), wish(nodes_allowed=["00" * 32]), ()),
        (place(), wish(nodes_denied=["00" * 32]), ("denied",)),
        (place(account=b"a" * 20), wish(nodes_allowed=["0x" + "61" * 20]), ()),
        (place(account=b"a" * 20), wish(nodes_denied=["0x" + "61" * 20]), ("denied",)),
        (place(), wish()._replace(trust_min="proven"), ("trust",)),
        (place(trust="proven"), wish()._replace(trust_min="proven"), ()),
        (place(trust="proven"), wish()._replace(trust_min="vouched"), ("trust",)),
        (place(trust="vouched"), wish()._replace(trust_min="proven"), ()),
        (place(trust="vouched", account=b"a"), wish()._replace(trust_min="own", buyer=b"b"), ("trust",)),
        (place(account=b"a"), wish()._replace(trust_min="own", buyer=b"a"), ()),
        (place(account=b"a"), wish()._replace(trust_min="vouched", buyer=b"a"), ()),
        (place(trust="vouched"), wish()._replace(trust_min="own"), ("trust",)),
        (place(price=101), wish(max_price=100), ("price",)),
        (place(price=100), wish(max_price=100), ()),
        (place(), wish(attributes={"gpu": "1"}), ("attribute:gpu",)),
        (place(), wish(needs={"compute.wasm": "2"}), ("attribute:compute.wasm",)),
        (place(free=Resources(cpu_milli=999, memory_mib=4096, disk_mib=1000)), wish(), (BUSY,)),
        (place(free=Resources(cpu_milli=-1, memory_mib=0)), wish(cpu_milli=1, memory_mib=1, disk_mib=0), (BUSY,)),
        (
            place(here=False, price=7, free=Resources(cpu_milli=0, memory_mib=0)),
            wish(max_price=6, cpu_milli=5000),
            ("offline", "cpu", "price"),
        ),
    ],
)
def test_each_requirement_by_its_name(place_: Place, wish_: Wish, names: tuple[str, ...]) -> None:
    assert obstacles(place_, wish_) == names


RTX = {"gpu.model": "NVIDIA GeForce RTX 4090", "gpu.vram_mib": "24564"}
WITH_GPUS = place(total=Resources(cpu_milli=4000, memory_mib=4096, disk_mib=1000, gpus=2), attributes=RTX)


@pytest.mark.parametrize(
    ("place_", "asked", "names"),
    [
        (WITH_GPUS, {"gpus": 2}, (BUSY,)),
        (WITH_GPUS._replace(free=WITH_GPUS.total), {"gpus": 2}, ()),
        (WITH_GPUS._replace(free=WITH_GPUS.total), {"gpus": 2, "gpu_model": "rtx4090", "vram_mib": 24_000}, ()),
        (WITH_GPUS, {"gpus": 3}, ("gpu",)),
        (WITH_GPUS, {"gpus": 3, "gpu_model": "a100", "vram_mib": 40_000}, ("gpu", "gpu_model", "vram")),
        (place(), {"gpus": 1, "gpu_model": "rtx4090", "vram_mib": 1}, ("gpu", "gpu_model", "vram")),
        (place(attributes={**RTX, "gpu.vram_mib": "much"}), {"gpus": 1, "vram_mib": 1}, ("gpu", "vram")),
    ],
)
def test_graphics_processors_are_counted_and_told_apart(
    place_: Place, asked: dict[str, Any], names: tuple[str, ...]
) -> None:
    assert obstacles(place_, wish(**asked)) == names


@pytest.mark.parametrize(
    ("wanted", "model", "same"),
    [
        ("rtx4090", "NVIDIA GeForce RTX 4090", True),
        ("RTX 4090", "NVIDIA GeForce RTX 4090", True),
        ("nvidia geforce rtx 4090", "NVIDIA GeForce RTX 4090", True),
        ("4090", "NVIDIA GeForce RTX 4090", True),
        ("A100", "NVIDIA A100-SXM4-80GB", True),
        ("a100 sxm4 80gb", "NVIDIA A100-SXM4-80GB", True),
        ("l4", "NVIDIA L40S", False),
        ("rtx4080", "NVIDIA GeForce RTX 4090", False),
        ("090", "NVIDIA GeForce RTX 4090", False),
        ("a100 80gb", "NVIDIA A100-SXM4-80GB", False),
        ("--", "NVIDIA A100-SXM4-80GB", False),
        ("a100", "", False),
    ],
)
def test_models_are_compared_by_their_words(wanted: str, model: str, *, same: bool) -> None:
    assert same_model(wanted, {"gpu.model": model}) == same


def test_a_model_or_memory_without_a_count_is_no_requirement() -> None:
    for asked in ({"gpu_model": "a100"}, {"vram_mib": 1}):
        with pytest.raises(msgspec.ValidationError, match="need gpus"):
            msgspec.convert({"id": "0" * 32, "vertical": "compute", "work": {}, "requirements": asked}, Order)


def test_a_graphics_processor_has_its_price() -> None:
    terms = Terms(price_microusd_per_core_hour=1000, price_microusd_per_gpu_hour=250_000)
    assert terms.price_microusd_per_hour(Resources(cpu_milli=500, memory_mib=64, gpus=2)) == 500_500


def test_why_not_counts_every_reason_of_every_node() -> None:
    places = [
        place(1),
        place(2, here=False),
        place(3, here=False, country="DE"),
        place(4, free=Resources(cpu_milli=0, memory_mib=0)),
    ]
    assert why_not(places, wish(countries=["JP"])) == {"offline": 2, "busy": 1, "country": 1}
    assert list(why_not(places, wish(countries=["JP"]))) == ["offline", "busy", "country"]
    assert why_not([], wish()) == {}


def test_the_cheapest_comes_first_then_the_tightest_fit() -> None:
    tight = Resources(cpu_milli=1500, memory_mib=4096, disk_mib=1000)
    tighter = Resources(cpu_milli=1500, memory_mib=512, disk_mib=1000)
    places = [
        place(1, price=200),
        place(2, price=100),
        place(3, price=100, free=tight),
        place(4, price=100, free=tighter),
        place(5, price=100, free=tighter),
        place(6, price=50, here=False),
    ]
    assert [found.node[0] for found in candidates(reversed(places), wish())] == [4, 5, 3, 2, 1]


def test_at_one_price_trust_comes_first_then_who_holds_the_inputs_then_the_fit() -> None:
    tight = Resources(cpu_milli=1000, memory_mib=256, disk_mib=64)
    places = [
        place(1, price=99, trust="new"),
        place(2, trust="proven", holds=True),
        place(3, trust="proven", free=tight),
        place(4, trust="proven"),
        place(5, trust="new", holds=True, free=tight),
        place(6, trust="new", free=tight),
        place(7, price=101, trust="proven", holds=True, free=tight),
    ]
    assert [found.node[0] for found in candidates(reversed(places), wish())] == [1, 2, 3, 4, 5, 6, 7]


def test_a_price_counts_for_what_is_asked_for() -> None:
    """A node with cheap cores and dear memory is dear for those who need memory."""
    cores = place(1, terms=Terms(price_microusd_per_core_hour=1, price_microusd_per_gib_hour=1000))
    memory = place(2, terms=Terms(price_microusd_per_core_hour=100, price_microusd_per_gib_hour=1))
    assert [found.node[0] for found in candidates([cores, memory], wish(memory_mib=1))] == [1, 2]
    assert [found.node[0] for found in candidates([cores, memory], wish(memory_mib=4096))] == [2, 1]


AMOUNTS = st.integers(0, 5000)
RESOURCES = st.builds(Resources, cpu_milli=AMOUNTS, memory_mib=AMOUNTS, disk_mib=st.integers(0, 2000))


@given(totals=st.lists(st.tuples(RESOURCES, RESOURCES, st.booleans()), max_size=8), cpu=st.integers(1, 5000))
def test_a_node_is_a_candidate_or_has_an_obstacle(totals: list[tuple[Resources, Resources, bool]], cpu: int) -> None:
    places = [place(n, total=total, free=free, here=here) for n, (total, free, here) in enumerate(totals)]
    wanted = wish(cpu_milli=cpu)
    found = {one.node for one in candidates(places, wanted)}
    for one in places:
        assert (one.node in found) == (not obstacles(one, wanted))
        if one.node in found:
            assert one.free.holds(wanted.requirements.resources)


PLACES = st.lists(
    st.builds(
        place,
        st.integers(0, 255),
        st.integers(1, 3),
        here=st.booleans(),
        suspended=st.booleans(),
        banned=st.booleans(),
        free=RESOURCES,
        trust=st.sampled_from(["new", "proven"]),
        holds=st.booleans(),
        country=st.sampled_from(["", "JP"]),
    ),
    unique_by=lambda one: one.node,
    max_size=12,
)
WISHES = st.builds(
    wish,
    st.integers(0, 12),
    cpu_milli=st.integers(1, 5000),
    memory_mib=st.integers(1, 3),
    countries=st.sampled_from([[], ["JP"]]),
)


@given(PLACES, WISHES, st.randoms())
def test_the_ranking_is_total_stable_and_names_only_who_fits(places: list[Place], wanted: Wish, chance: Random) -> None:
    found = candidates(places, wanted)
    shuffled = places.copy()
    chance.shuffle(shuffled)
    assert candidates(shuffled, wanted) == found, "the order in which nodes are known changes nothing"
    assert {one.node for one in found} == {one.node for one in places if not obstacles(one, wanted)}
    ranks = [rank(one, wanted) for one in found]
    assert all(before < after for before, after in pairwise(ranks))


@given(PLACES, WISHES)
def test_nobody_comes_before_a_cheaper_node_or_at_one_price_before_a_better_one(
    places: list[Place], wanted: Wish
) -> None:
    def price(one: Place) -> int:
        return one.terms.price_microusd_per_hour(wanted.requirements.resources)

    for before, after in pairwise(candidates(places, wanted)):
        assert price(before) <= price(after)
        if price(before) == price(after):
            assert (before.trust, before.holds) >= (after.trust, after.holds), "proven sorts after new"


# Amounts and their price


@given(RESOURCES, RESOURCES)
def test_sums_and_differences(one: Resources, other: Resources) -> None:
    assert one.plus(other).minus(other) == one
    assert one.plus(other).holds(one)
    assert one.minus(other).or_nothing().holds(Resources(cpu_milli=0, memory_mib=0))
    assert one.holds(one.minus(other).or_nothing())


@pytest.mark.parametrize(
    ("cpu_milli", "memory_mib", "core", "gib", "price"),
    [
        (1000, 1024, 7, 5, 12),
        (1, 1, 1, 0, 1),  # rounded up: nothing is free by rounding
        (1, 1, 0, 1, 1),
        (1, 1, 0, 0, 0),
        (1500, 512, 2, 2, 4),
        (10_000_000, 1 << 30, 10**12, 10**12, 10**16 + (1 << 20) * 10**12),
    ],
)
def test_prices(cpu_milli: int, memory_mib: int, core: int, gib: int, price: int) -> None:
    terms = Terms(price_microusd_per_core_hour=core, price_microusd_per_gib_hour=gib)
    assert terms.price_microusd_per_hour(Resources(cpu_milli=cpu_milli, memory_mib=memory_mib)) == price
    assert GIB_MIB == 1024
