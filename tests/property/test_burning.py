"""Burned credits in the fold: what settle gave follows from the records of it, and nothing else does."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.domain import calls
from fallow.domain.chain_facts import ChainBurned
from fallow.domain.decisions import Decision
from fallow.domain.epochs.burning import Burns, Happened, replay
from fallow.domain.epochs.closing import close
from fallow.domain.epochs.state import NOTHING, Row, read_state, write_state
from fallow.domain.errors import FallowError, Unavailable
from fallow.domain.price_facts import BurnCredited, PriceAccepted, PriceReported, price_text
from fallow.domain.records import Body
from fallow.domain.rewards.oracle import TOKEN_UNITS, guard_of
from fallow.domain.wallets import address_of, sign_text
from tests.epoch_files import NET, NETWORK_KEY
from tests.epoch_world import BURNING, METERINGS, epoch, filed
from tests.epoch_world import KEYS as EPOCH_KEYS
from tests.price_world import AGE_MS, BUYER, FAIR, JUMP_PPM, KEYS, World

FEEDS = [address_of(key) for key in KEYS]
GUARD = guard_of(len(FEEDS), age_max_ms=AGE_MS, jump_max_ppm=JUMP_PPM)


class Recorded(World):
    """The service, and epochs of what it recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.carried: dict[str, list[Row]] = {}
        self.credited = self.unsound = self._folded = 0

    async def burn(self, tokens: int) -> None:
        """Burn, as the reader of the chain takes it: it waits, and is recorded."""
        await super().burn(tokens)
        fact = ChainBurned(
            block=self.sent, place=0, transaction=self.sent.to_bytes(32), sender=BUYER, account=BUYER,
            amount=(tokens * TOKEN_UNITS).to_bytes(32),
        )  # fmt: skip
        async with self.database.transaction() as tx:
            await self.decisions.add(tx, [Decision(self.clock.now_ms(), fact)])

    def happened(self) -> list[Happened]:
        """What was recorded since the last epoch."""
        waiting = sorted(self.decisions.waiting.items())[self._folded :]
        self._folded += len(waiting)
        return [(decision.at, decision.body) for _, decision in waiting]

    def close(self) -> Burns:
        """Close an epoch; what is carried goes through its file."""
        burns = replay(self.happened(), self.carried, FEEDS, GUARD)
        state = NOTHING._replace(carried={name: rows for name, rows in burns.rows().items() if rows})
        self.carried = {name: list(rows) for name, rows in read_state(write_state(state)).carried.items()}
        self.credited += burns.credited
        self.unsound += burns.unsound
        return burns


async def live(seed: int) -> None:
    """Feeds that are honest, lie, jump or sleep; burns, credits, and epochs that end in between."""
    chance, world = Random(seed), Recorded()
    for _ in range(60):
        draw = chance.random()
        if draw < 0.5:
            price = chance.choice([FAIR, FAIR + 7, FAIR * 11 // 10, FAIR * 2, 1])
            with suppress(FallowError):
                await world.tell(chance.randrange(4), price, doubt=chance.choice([0, 0, 3]))
        elif draw < 0.65:
            await world.burn(chance.randrange(1, 9))
        elif draw < 0.85:
            with suppress(Unavailable):
                await world.burns.credit()
        elif draw < 0.9:
            with suppress(FallowError):
                await world.burns.accept(calls.tokens.HoldPrice(price_microusd=chance.choice([FAIR, FAIR * 2])))
        elif draw < 0.95:
            world.close()
        await world.clock.advance(chance.choice([1, 10, 10, 10, 30, 700]))
    last = world.close()
    assert (world.credited, world.unsound) == (await world.credits(), 0)
    assert len(last.waiting) == (await world.burns.price({})).waiting


@given(st.integers(0, 10**9))
@settings(deadline=None)
def test_what_settle_gave_follows_from_the_records(seed: int) -> None:
    asyncio.run(live(seed))


@pytest.fixture
async def day() -> list[Happened]:
    """A burn that was credited."""
    world = Recorded()
    await world.burn(4)
    await world.fair(0, 1, 2, 3)
    await world.burns.credit()
    return world.happened()


def with_credit(day: list[Happened], **changed: Any) -> list[Happened]:
    return [
        (at, msgspec.structs.replace(body, **changed) if isinstance(body, BurnCredited) else body) for at, body in day
    ]


async def test_a_credit_without_a_burn_of_another_account_or_at_another_price_shows(day: list[Happened]) -> None:
    right = replay(day, {}, FEEDS, GUARD)
    assert (right.credited, right.unsound, right.waiting) == (4 * FAIR, 0, {})
    wrongs: list[dict[str, Any]] = [
        {"account": b"\xee" * 20},
        {"burned": (5 * TOKEN_UNITS).to_bytes(32)},
        {"place": 1},
        {"price_microusd": FAIR + 1},
        {"credit_microusd": 4 * FAIR + 1},
    ]
    for changed in wrongs:
        wrong = replay(with_credit(day, **changed), {}, FEEDS, GUARD)
        assert (wrong.credited, wrong.unsound) == (0, changed.get("credit_microusd", 4 * FAIR))
    twice = replay([*day, day[-1]], {}, FEEDS, GUARD)
    assert (twice.credited, twice.unsound) == (4 * FAIR, 4 * FAIR)


async def test_a_price_that_feeds_did_not_say_or_a_jump_nobody_accepted_shows(day: list[Happened]) -> None:
    strangers = replay(day, {}, [b"\xee" * 20], GUARD)
    assert (strangers.credited, strangers.unsound, strangers.quotes) == (0, 4 * FAIR, [])
    burned, told, (at, credit) = day[:1], day[1:-1], day[-1]
    early = replay([*burned, *told[:2], (at, credit)], {}, FEEDS, GUARD)
    assert early.unsound == 4 * FAIR
    late = replay([*burned, *told, (at + AGE_MS + 1, credit)], {}, FEEDS, GUARD)
    assert late.unsound == 4 * FAIR
    jumped = replay([*burned, (at, PriceAccepted(price_microusd=FAIR * 2)), *told, (at, credit)], {}, FEEDS, GUARD)
    assert jumped.unsound == 4 * FAIR


@pytest.mark.parametrize(("accepted", "price"), [(True, 2 * FAIR), (False, 0)])
def test_incentives_go_on_at_the_price_that_the_operator_has_accepted(*, accepted: bool, price: int) -> None:
    """The breaker of minting measures from where that of credits does, and not from the epoch before for ever."""
    jump: list[Body] = [PriceAccepted(price_microusd=2 * FAIR)] if accepted else []
    days: list[list[Body]] = [[*quotes(FAIR, 0)], [*quotes(2 * FAIR, 1), *jump], [*quotes(2 * FAIR, 2)]]
    opening, totals = b"", dict[str, int]()
    for number, bodies in enumerate(days):
        records = [filed(NETWORK_KEY, body, place, epoch().until_ms) for place, body in enumerate(bodies)]
        closed = close(opening, epoch(number), records, BURNING, METERINGS)
        opening, totals = closed.files["state"], closed.folded.totals
    assert totals["price"] == price


def quotes(price: int, number: int) -> list[PriceReported]:
    """What all feeds say near the end of an epoch."""
    at = epoch().until_ms - 10 + number
    return [
        PriceReported(
            feed=address_of(key), price_microusd=price, doubt_microusd=0, at_ms=at,
            signature=sign_text(key, price_text(NET, price, 0, at)),
        )
        for key in EPOCH_KEYS
    ]  # fmt: skip
