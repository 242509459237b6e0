"""A market that begins: what it reads, and for how long it then leads."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fallow.domain.offers import Offer
from fallow.ports.market_store import MarketState
from fallow.services.market import rounds
from tests.market_twins import TERM, Store, finish
from tests.market_world import World
from tests.unit.market_orders import BIG, CHEAP


def test_offers_are_loaded_in_portions_and_all_of_them(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    portions: list[int] = []
    offers = Store.offers

    async def portion(self: Store, tx: object, after: bytes, limit: int) -> Sequence[Offer]:
        found = await offers(self, tx, after, limit)
        portions.append(len(found))
        return found

    monkeypatch.setattr(Store, "offers", portion)
    monkeypatch.setattr(rounds, "OFFERS_AT_ONCE", 2)
    for node in world.nodes[:3]:
        world.offer(node, BIG, CHEAP)
    world.settle()
    world.restart()
    assert portions == [2, 1, 0]
    assert sorted(world.brain.floor.slots) == sorted(node.id for node in world.nodes[:3])


def test_a_term_lasts_although_loading_took_longer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    terms: list[int] = []
    load = Store.load

    async def slowly(self: Store, tx: object) -> MarketState:
        world.now += 2 * rounds.TERM_MS
        return await load(self, tx)

    async def lead(_: Store, __: object, holder: str, now: int, until: int) -> int:
        assert (holder, now) == ("market", world.now)
        terms.append(until)
        return TERM

    async def nobody(*_: object) -> int:
        return 0

    monkeypatch.setattr(Store, "load", slowly)
    monkeypatch.setattr(Store, "lead", lead)
    monkeypatch.setattr(Store, "until", nobody, raising=False)
    monkeypatch.setattr(World, "monotonic_ms", World.now_ms, raising=False)
    assert finish(world.rounds._take_over()) == TERM
    assert terms[-1] == world.now + rounds.TERM_MS
