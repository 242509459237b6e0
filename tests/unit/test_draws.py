"""Draws from a seed that is committed to: anybody can recompute them, nobody can foresee or change them."""

# ruff: noqa: D102

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from fallow.adapters.memory.checks import MemoryCheckStore
from fallow.adapters.memory.database import MemoryDatabase, MemoryTransaction
from fallow.adapters.memory.decisions import MemoryDecisionStore
from fallow.domain.draws import Commitment, Draw, Purpose, Seed, draw, faults, seed_of
from fallow.domain.errors import NotAllowed, NotFound
from fallow.services.market.seeds import Seeds

KEY = SigningKey(bytes(32))
SECRET = b"the network's own"
EPOCH_MS = 1_000
NODE = b"n" * 32

leases = st.binary(min_size=16, max_size=16)
draws_made = st.lists(st.tuples(leases, st.sampled_from(Purpose), st.integers(1, 1000)), max_size=20)


def committed(seed: Seed) -> Commitment:
    return Commitment(net="test", number=seed.number, commitment=seed.commitment)


def make(seed: Seed, drawn: list[tuple[bytes, Purpose, int]]) -> list[Draw]:
    return [draw(seed, purpose, lease=lease, node=NODE, one_in=one_in, at=5) for lease, purpose, one_in in drawn]


@given(number=st.integers(0, 2**40), drawn=draws_made)
def test_draws_hold_against_the_seed_that_was_shown(number: int, drawn: list[tuple[bytes, Purpose, int]]) -> None:
    seed = seed_of(SECRET, number)
    assert faults(committed(seed), seed.value, make(seed, drawn)) == []


@given(drawn=draws_made.filter(bool), data=st.data())
def test_a_draw_that_was_changed_is_found(drawn: list[tuple[bytes, Purpose, int]], data: st.DataObject) -> None:
    seed = seed_of(SECRET, 7)
    made = make(seed, drawn)
    place = data.draw(st.integers(0, len(made) - 1))
    change = data.draw(st.sampled_from([{"hit": not made[place].hit}, {"number": 8}]))
    made[place] = made[place]._replace(**change)  # type: ignore[arg-type]
    assert len(faults(committed(seed), seed.value, made)) == 1


@given(other=st.binary(min_size=32, max_size=32).filter(lambda value: value != seed_of(SECRET, 7).value))
def test_another_seed_is_not_taken(other: bytes) -> None:
    assert faults(committed(seed_of(SECRET, 7)), other, []) != []


def test_the_seed_of_another_epoch_is_not_taken() -> None:
    assert faults(committed(seed_of(SECRET, 7)), seed_of(SECRET, 8).value, []) != []


@pytest.mark.parametrize("one_in", [2, 10, 40])
def test_draws_hit_as_often_as_they_say(one_in: int) -> None:
    seed = seed_of(SECRET, 1)
    made = make(seed, [(n.to_bytes(16, "big"), Purpose.CHECK, one_in) for n in range(20_000)])
    expected = len(made) / one_in
    assert abs(sum(entry.hit for entry in made) - expected) < 4 * math.sqrt(expected)


def test_purposes_are_drawn_apart() -> None:
    seed = seed_of(SECRET, 1)
    names = [n.to_bytes(16, "big") for n in range(1_000)]
    drawn = [[entry.hit for entry in make(seed, [(name, purpose, 2) for name in names])] for purpose in Purpose]
    for one, other in combinations(drawn, 2):
        assert abs(sum(a and b for a, b in zip(one, other, strict=True)) - 250) < 4 * math.sqrt(250)


# Opening and closing


class World:
    """The market's seeds over a store in memory, as a process that starts anew each time sees them."""

    def __init__(self) -> None:
        self.store, self.database = MemoryCheckStore(), MemoryDatabase()

    def seeds(self, secret: bytes = SECRET) -> Seeds:
        sign: Callable[[bytes], bytes] = lambda message: KEY.sign(message).signature  # noqa: E731
        return Seeds(
            net="test", secret=secret, sign=sign, epoch_ms=EPOCH_MS, store=self.store, decisions=MemoryDecisionStore()
        )

    async def current(self, now: int) -> Seed:
        async with self.database.transaction() as tx:
            return await self.seeds().current(tx, now)

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[tuple[Seeds, MemoryTransaction]]:
        async with self.database.transaction() as tx:
            yield self.seeds(), tx


async def test_the_next_seed_is_committed_to_before_the_first_draw_of_the_open_one() -> None:
    world = World()
    first = await world.current(10)
    async with world.looking() as (seeds, tx):
        following, opened = await seeds.shown(tx)
    assert (opened.number, opened.opened_at, opened.closed_at, opened.seed) == (1, 10, None, None)
    assert (following.number, following.opened_at, following.seed) == (2, None, None)
    assert Commitment.open(bytes.fromhex(opened.commitment), bytes(KEY.verify_key)) == committed(first)


async def test_an_epoch_is_over_once_and_its_seed_fits_what_was_promised() -> None:
    world = World()
    first = await world.current(10)
    async with world.looking() as (seeds, tx):
        promised = (await seeds.shown(tx))[0].commitment
    second = await world.current(EPOCH_MS * 40)
    assert second.number == first.number + 1  # epochs in which nothing ran have no seed
    async with world.looking() as (seeds, tx):
        _, opened, closed = await seeds.shown(tx)
    assert opened.commitment == promised
    assert (closed.seed, closed.closed_at) == (first.value.hex(), EPOCH_MS * 40)
    assert opened.seed is None


@pytest.mark.parametrize("now", [0, 10, EPOCH_MS, EPOCH_MS + 999])
async def test_a_clock_set_back_brings_no_known_seed_back(now: int) -> None:
    world = World()
    await world.current(10)
    second = await world.current(EPOCH_MS + 500)
    assert await world.current(now) == second


async def test_draws_are_shown_when_their_epoch_is_over_and_page_by_page() -> None:
    world = World()
    seed = await world.current(10)
    made = make(seed, [(n.to_bytes(16, "big"), purpose, 3) for n in range(5) for purpose in Purpose])
    async with world.looking() as (seeds, tx):
        await world.store.add(tx, made)
        await world.store.add(tx, [made[0]._replace(hit=not made[0].hit)])  # what is written stays
        with pytest.raises(NotFound):
            await seeds.draws(tx, seed.number, (b"", ""), 10)
    await world.current(EPOCH_MS)
    found: list[Any] = []
    async with world.looking() as (seeds, tx):
        while page := await seeds.draws(
            tx, seed.number, (bytes.fromhex(found[-1].lease), found[-1].purpose) if found else (b"", ""), 3
        ):
            found += page
    assert [(view.lease, view.purpose, view.hit) for view in found] == sorted(
        (entry.lease.hex(), entry.purpose.value, entry.hit) for entry in made
    )


def test_a_commitment_that_another_key_signed_is_refused() -> None:
    sealed = committed(seed_of(SECRET, 1)).seal(lambda message: SigningKey(b"x" * 32).sign(message).signature)
    with pytest.raises(NotAllowed):
        Commitment.open(sealed, bytes(KEY.verify_key))
