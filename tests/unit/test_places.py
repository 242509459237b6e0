"""Places: what of them leaves a machine, who is near, and what is refused at the door."""

from __future__ import annotations

from pathlib import Path

import h3
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.agent.consent import consent_text
from fallow.agent.enrol import Wishes, settings_from
from fallow.agent.home import Home, State
from fallow.agent.inventory import Inventory
from fallow.agent.owner import Shape
from fallow.agent.presence import Presence
from fallow.domain.batches import seal_batch
from fallow.domain.errors import InvalidInput
from fallow.domain.facts import OfferMade, PlacedOfferMade, SpotOfferMade
from fallow.domain.matching import why_not
from fallow.domain.orders import Order, Requirements
from fallow.domain.places import RESOLUTION_MAX, distance_km, is_cell, is_near, read_cell
from fallow.domain.records import make_record, to_builtins
from fallow.domain.resources import Resources, Terms
from fallow.domain.views.network import NetworkView
from fallow.services.market.dispatch import wish_of
from fallow.services.market.show import node_view, quote
from tests.market_world import NET, WINDOW_MS, World, failed

BERLIN, POTSDAM, TOKYO = "52.5200,13.4050", "52.3906,13.0645", "35.6762,139.6503"
FULL = Terms(price_microusd_per_core_hour=360_000)
FINE = "8f1f1d4898a1c0b"  # a few square metres
MACHINE = Inventory(4000, 8192, 100_000, 0, "linux", "x86_64", "3.11", (), {})
latitudes, longitudes = st.floats(-90, 90), st.floats(-180, 180)


@given(latitudes, longitudes)
def test_a_point_becomes_the_coarse_cell_around_it(latitude: float, longitude: float) -> None:
    cell = read_cell(f"{latitude!r},{longitude!r}")
    assert is_cell(cell)
    assert h3.get_resolution(cell) == RESOLUTION_MAX
    assert h3.latlng_to_cell(latitude, longitude, RESOLUTION_MAX) == cell


@given(latitudes, longitudes, st.integers(0, 15))
def test_finer_cells_are_widened_and_coarser_ones_stay(latitude: float, longitude: float, resolution: int) -> None:
    given_ = h3.latlng_to_cell(latitude, longitude, resolution)
    told = read_cell(given_)
    assert h3.get_resolution(told) == min(resolution, RESOLUTION_MAX)
    assert h3.cell_to_parent(given_, h3.get_resolution(told)) == told


@pytest.mark.parametrize(
    "text",
    ["", ",", "here", "91,0", "0,181", "nan,0", "52.5", "52.5,13.4,7", "851f1d4bffffff", "85ffffffffffffff", "-1"],
)
def test_what_is_no_place(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"place\.invalid"):
        read_cell(text)


@given(latitudes, longitudes, latitudes, longitudes, st.integers(1, 20_038))
def test_near_is_the_same_from_both_sides(a: float, b: float, c: float, d: float, km: int) -> None:
    one, other = read_cell(f"{a!r},{b!r}"), read_cell(f"{c!r},{d!r}")
    assert is_near(one, other, km) == is_near(other, one, km) == (distance_km(one, other) <= km)
    assert is_near(one, one, 0)
    assert not is_near("", one, km)


def test_kilometres() -> None:
    berlin, potsdam, tokyo = map(read_cell, (BERLIN, POTSDAM, TOKYO))
    assert 10 < distance_km(berlin, potsdam) < 50
    assert distance_km(berlin, tokyo) == pytest.approx(8920, abs=30)


# What leaves a machine


def home_at(folder: Path, place: str, **wishes: str) -> tuple[Home, State]:
    home, settings = Home(folder), settings_from(Wishes(place=place, **wishes), MACHINE)  # type: ignore[arg-type]
    network = NetworkView(net="n", public_key="", bus_url="", preset="lab", version="1", url="", install_sha256="")
    return home, home.save(State(url="", network=network, account="", account_signature="", settings=settings))


def test_only_the_cell_is_kept_and_told(tmp_path: Path) -> None:
    home, state = home_at(tmp_path / "home", BERLIN, country="de")
    made = Presence(home, state, {}).offer(Shape(open=True, total=state.settings.total, floor=0))
    assert isinstance(made, PlacedOfferMade)
    assert (made.country, made.cell) == ("DE", read_cell(BERLIN))
    assert (made.cell, made.spot) == (state.settings.cell, None)
    kept = b"".join(path.read_bytes() for path in home.path.rglob("*") if path.is_file())
    assert b"52.52" not in kept
    assert b"13.40" not in kept
    text = consent_text(url="", net="n", home="", verticals={}, settings=state.settings)
    assert f"Anybody can read its country DE and H3 cell {made.cell} (250 km2 or more)." in text
    assert "52.5" not in text


def test_an_owner_who_tells_no_place_makes_the_offers_that_older_networks_know(tmp_path: Path) -> None:
    home, state = home_at(tmp_path / "home", "")
    shape = Shape(open=True, total=state.settings.total, floor=0)
    assert type(Presence(home, state, {}).offer(shape)) is OfferMade
    spot = msgspec.structs.replace(state.settings, spot=Terms(price_microusd_per_core_hour=1))
    assert type(Presence(home, msgspec.structs.replace(state, settings=spot), {}).offer(shape)) is SpotOfferMade
    assert "Anybody" not in consent_text(url="", net="n", home="", verticals={}, settings=state.settings)


@pytest.mark.parametrize("country", ["Germany", "D", "1A", "ÄÖ"])
def test_what_is_no_country(country: str) -> None:
    with pytest.raises(InvalidInput, match=r"agent\.country"):
        settings_from(Wishes(country=country), MACHINE)


# The market


def placed(cell: str, number: int = 1, **fields: object) -> PlacedOfferMade:
    return msgspec.convert(
        {
            "offer": number,
            "open": True,
            "total": {"cpu_milli": 1000, "memory_mib": 1000, "disk_mib": 1000},
            "terms": {"price_microusd_per_core_hour": 360_000},
            "cell": cell,
            **fields,
        },
        PlacedOfferMade,
    )


def near(place: str, within_km: int) -> Order:
    return Order(
        id=f"{within_km:032x}", vertical="compute", work={},
        requirements=Requirements(near=read_cell(place), within_km=within_km),
    )  # fmt: skip


@pytest.fixture
def world() -> World:
    """A machine in Berlin (which takes spot leases), one in Tokyo, and one that does not say."""
    world = World(nodes=3)
    world.grant(world.buyers[0], 10_000_000)
    world.record(world.nodes[0], placed(read_cell(BERLIN), spot={"price_microusd_per_core_hour": 180_000}))
    world.record(world.nodes[1], placed(read_cell(TOKYO)))
    world.offer(world.nodes[2], Resources(cpu_milli=1000, memory_mib=1000, disk_mib=1000), FULL)
    assert world.round()
    return world


def test_work_goes_to_a_machine_that_is_near(world: World) -> None:
    answer = world.submit(near(POTSDAM, 50), world.buyers[0])
    assert world.round()
    assert not failed(answer)
    (lease,) = world.brain.leases.values()
    assert lease.node == world.nodes[0].id
    needs = world.brain.jobs[lease.job].job.needs
    wish = wish_of(near(POTSDAM, 5), needs)
    assert why_not(world.brain.places(world.now), wish) == {"near": 3}
    shown = quote(world.brain, wish_of(near(TOKYO, 1000), needs), WINDOW_MS, world.now)
    assert [candidate.cell for candidate in shown.candidates] == [read_cell(TOKYO)]
    slot = world.brain.floor.slots[world.nodes[0].id]
    view = node_view(slot, world.brain.judging.standing(lease.node), "", world.now, banned=False, trust="new")
    assert view.cell == read_cell(BERLIN)
    assert slot.offer.spot == Terms(price_microusd_per_core_hour=180_000)


FORGED = [FINE, "", "851f1d4bffffffe", "85ffffffffffffff", "Berlin", "851F1D4BFFFFFFF"]


@pytest.mark.parametrize("cell", FORGED)
def test_a_cell_that_is_none_or_too_fine_is_refused_at_the_door(world: World, cell: str) -> None:
    node, honest = world.nodes[1], placed(read_cell(TOKYO), number=2)
    record, _ = make_record(honest, net=NET, node=node.id, boot=1, seq=node.seq, at=1, new_salt=lambda: bytes(32))
    forged = msgspec.structs.replace(record, body={**to_builtins(honest), "cell": cell})
    world.append(node.id, seal_batch([forged], lambda _: bytes(64)))
    assert world.round()
    assert [refusal.code for refusal in world.store.refusals.values()] == ["record.body"]
    assert world.brain.floor.slots[node.id].offer.made.offer == 1
    order = {"id": "0" * 32, "vertical": "compute", "work": {}}
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({**order, "requirements": {"near": cell, "within_km": 10}}, Order)


def test_near_and_its_distance_belong_together() -> None:
    order = {"id": "0" * 32, "vertical": "compute", "work": {}}
    for alone in ({"near": read_cell(TOKYO)}, {"within_km": 10}):
        with pytest.raises(msgspec.ValidationError, match="belong together"):
            msgspec.convert({**order, "requirements": alone}, Order)
