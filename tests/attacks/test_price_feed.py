"""A manipulated price feed: lies of fewer than a third, old words and jumps move no credit beyond the bound."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.adapters.memory.burn_store import MemoryBurnStore
from fallow.adapters.memory.ledger import MemoryLedger
from fallow.domain import calls
from fallow.domain.errors import Conflict, InvalidInput, NotAllowed, TooMuch, Unavailable
from fallow.domain.ledger import Result, Transfer
from fallow.domain.price_facts import BurnCredited, PriceAccepted, PriceReported, price_text
from fallow.domain.rewards.oracle import Oracle, Quote, guard_of
from fallow.domain.wallets import sign_text, signer_of
from fallow.ports.database import Transaction
from fallow.services.settle.burns import AHEAD_MS, GAP_MS, NO_FEEDS
from tests.price_world import AGE_MS, FAIR, JUMP_PPM, KEYS, NET, World


async def test_a_burn_is_credited_once_at_the_price_that_holds() -> None:
    world = World()
    await world.burn(8)
    await world.fair(0, 1, 2, 3)
    assert await world.burns.credit() == 1
    assert await world.burns.credit() == 0
    assert await world.credits() == 8 * FAIR
    bodies = [decision.body for decision in world.decisions.waiting.values()]
    assert [type(body) for body in bodies] == [*[PriceReported] * 4, BurnCredited]
    said = bodies[0]
    assert isinstance(said, PriceReported)
    text = price_text(NET, said.price_microusd, said.doubt_microusd, said.at_ms)
    assert signer_of(text, said.signature) == said.feed  # anybody can check whose word the archive holds


async def test_a_burn_that_the_chain_shows_again_is_credited_once_and_holds_nobody_up() -> None:
    """A reorganisation deeper than what counts as final, and another price since."""
    world = World()
    await world.burn(8)
    await world.fair(0, 1, 2, 3)
    await world.burns.credit()
    for price in (FAIR, FAIR + 1):
        await world.fair(0, 1, 2, 3, price=price)
        world.sent = 0
        await world.burn(8)
        await world.burn(1)
        await world.burns.credit()
    assert await world.credits() == 9 * FAIR
    bodies = [decision.body for decision in world.decisions.waiting.values()]
    assert [body.price_microusd for body in bodies if isinstance(body, BurnCredited)] == [FAIR, FAIR]


async def test_without_a_sound_price_a_burn_waits_and_says_why() -> None:
    world = World()
    await world.burn(8)
    await world.fair(0, 1)
    with pytest.raises(Unavailable, match=r"oracle\.stale"):
        await world.burns.credit()
    view = await world.burns.price({})
    assert (view.price_microusd, view.waiting, await world.credits()) == (None, 1, 0)
    assert view.why == "2 sources have a fresh price, 3 are needed."
    told = await world.started(feeds=0).price({})
    assert (told.code, told.why) == ("oracle.no_feeds", NO_FEEDS)
    world.burns = world.started()
    await world.fair(2)
    assert await world.burns.credit() == 1
    assert await world.credits() == 8 * FAIR


@pytest.mark.parametrize("lie", [1, FAIR // 2, FAIR * 2, 10**9])
async def test_one_of_four_that_lies_moves_nothing_beyond_the_honest_words(lie: int) -> None:
    world = World()
    await world.burn(1)
    for feed, price in ((0, lie), (1, FAIR - 5), (2, FAIR), (3, FAIR + 5)):
        await world.tell(feed, price)
    await world.burns.credit()
    assert FAIR - 5 <= await world.credits() <= FAIR + 5


@given(
    n=st.integers(1, 31),
    fair=st.integers(1_000, 10**6),
    spread=st.lists(st.integers(-10, 10), min_size=31, max_size=31),
    lies=st.lists(st.integers(1, 10**9), min_size=31, max_size=31),
    doubts=st.lists(st.integers(0, 10**9), min_size=31, max_size=31),
    silent=st.integers(0, 10),
)
def test_fewer_than_a_third_that_lie_and_as_many_that_are_silent_leave_an_honest_price(
    n: int, fair: int, spread: list[int], lies: list[int], doubts: list[int], silent: int
) -> None:
    """Of n > 3f feeds f lie, and up to f say nothing: there is no price, or it lies between honest words."""
    guard, faulty = guard_of(n, age_max_ms=AGE_MS, jump_max_ppm=JUMP_PPM), (n - 1) // 3
    honest = [fair + off for off in spread[faulty : n - min(silent, faulty)]]
    told = [*zip(lies[:faulty], doubts[:faulty], strict=True), *((price, 0) for price in honest)]
    oracle = Oracle()
    for place, (price, doubt) in enumerate(told):
        oracle = oracle.told(Quote(str(place), 1, price, doubt), guard, 1)
    try:
        price = Oracle(oracle.quotes).price(guard, 1)
    except Unavailable:
        assert sum(price > 2 * doubt for price, doubt in told) < n - faulty, "who doubts his whole price is silent"
        return
    assert min(honest) <= price <= max(honest)


async def test_old_words_count_no_more_and_are_not_taken_again() -> None:
    world = World()
    await world.fair(0, 1, 2)
    told = sign_text(KEYS[0], price_text(NET, FAIR, 0, at := world.clock.now_ms()))
    report = calls.tokens.ReportPrice(price_microusd=FAIR, at_ms=at, signature="0x" + told.hex())
    await world.burns.report(report)
    records = len(world.decisions.waiting)
    assert (await world.burns.report(report)).price_microusd == FAIR
    assert len(world.decisions.waiting) == records  # the same again is the same word
    await world.clock.advance(GAP_MS / 1000)
    await world.tell(0, FAIR)
    with pytest.raises(InvalidInput, match=r"price\.old"):
        await world.burns.report(report)
    await world.clock.advance(AGE_MS / 1000 + 1)
    await world.burn(1)
    with pytest.raises(Unavailable, match=r"oracle\.stale"):
        await world.burns.credit()
    with pytest.raises(InvalidInput, match=r"price\.time"):
        await world.burns.report(report)
    with pytest.raises(InvalidInput, match=r"price\.time"):
        await world.tell(1, FAIR, ago_ms=-AHEAD_MS - 1)


async def test_a_jump_stops_burning_until_the_operator_has_looked() -> None:
    """Also where all feeds say so: a quarter more at once is more than the fifth that is let through."""
    world = World()
    await world.fair(0, 1, 2, 3)
    await world.fair(0, 1, 2, 3, price=FAIR * 5 // 4)
    await world.burn(1)
    with pytest.raises(Unavailable, match=r"oracle\.jump"):
        await world.burns.credit()
    assert "the operator has to look" in (await world.burns.price({})).why
    with pytest.raises(Conflict, match=r"price\.not_so"):
        await world.burns.accept(calls.tokens.HoldPrice(price_microusd=FAIR * 2))
    assert (
        await world.burns.accept(calls.tokens.HoldPrice(price_microusd=FAIR * 5 // 4))
    ).price_microusd == FAIR * 5 // 4
    await world.burns.credit()
    assert await world.credits() == FAIR * 5 // 4
    assert any(isinstance(decision.body, PriceAccepted) for decision in world.decisions.waiting.values())


async def test_only_feeds_are_heard_and_none_too_often() -> None:
    world = World()
    await world.fair(0, 1, 2, 3)
    world.burns = world.started(feeds=3)
    with pytest.raises(NotAllowed, match=r"price\.no_feed"):
        await world.tell(3, FAIR)
    with pytest.raises(NotAllowed, match=r"price\.no_feed"):
        await world.tell(0, FAIR, net="another")
    await world.tell(0, FAIR)
    await world.clock.advance(GAP_MS / 1000 - 1)
    with pytest.raises(TooMuch, match=r"price\.too_often"):
        await world.tell(0, FAIR)
    assert len((await world.burns.price({})).quotes) == 3  # who is no feed any more has no say


class LockedStore(MemoryBurnStore):
    """Somebody changes the price, and is not done yet."""

    async def oracle(self, tx: Transaction) -> Oracle:
        """Do not give the price to a second one who would change it."""
        raise Unavailable("test.locked", f"{tx} would wait.")


async def test_whoever_asks_for_the_price_takes_no_lock_that_feeds_and_burns_need() -> None:
    world = World()
    world.store = LockedStore()
    world.burns = world.started()
    assert (await world.burns.price({})).last_microusd == 0


class DyingLedger(MemoryLedger):
    """Dies once after it has posted."""

    dies = True

    async def post(self, tx: Transaction, transfers: Sequence[Transfer], now_ms: int) -> list[Result]:
        """See the port."""
        results = await super().post(tx, transfers, now_ms)
        if self.dies:
            self.dies = False
            raise Unavailable("database.away", "")
        return results


async def test_a_credit_that_fails_leaves_the_burn_waiting_and_counts_once() -> None:
    world = World()
    world.ledger = DyingLedger()
    world.burns = world.started()
    await world.burn(3)
    await world.fair(0, 1, 2, 3)
    with pytest.raises(Unavailable, match=r"database\.away"):
        await world.burns.credit()
    assert ((await world.burns.price({})).waiting, await world.credits()) == (1, 0)
    await asyncio.gather(world.burns.credit(), world.started().credit())
    assert ((await world.burns.price({})).waiting, await world.credits()) == (0, 3 * FAIR)
