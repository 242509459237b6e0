"""What everybody may ask of all nodes: nobody who asks makes the network walk over them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Final, NoReturn

import msgspec
import pytest

from fallow.domain.errors import Unavailable
from fallow.domain.offers import Forgiven, step
from fallow.domain.rollcall import Call, Member
from fallow.ports.tasks import background
from fallow.services.market import totals
from fallow.services.market.floor import Slot
from fallow.services.market.rollup import FIRST_S, REST_MAX_MS, RESTS, Rollup
from tests.market_world import World
from tests.network import until
from tests.roll_world import Machine, RollWorld, played
from tests.unit.fake_network import HandClock

LOOK_S: Final = 3
"""So long a look at all nodes takes."""


class Walked(dict[bytes, Slot]):
    """Slots that may be looked up one by one."""

    def _refuse(self, *_: object) -> NoReturn:
        raise AssertionError

    __iter__ = keys = values = items = _refuse


async def test_what_takes_a_walk_over_all_nodes_is_made_by_time_and_not_by_who_asks() -> None:
    clock, made = HandClock(), list[int]()

    async def make(now: int) -> int:
        made.append(now)
        clock.ms += 1000  # that is how long it takes
        return now

    rollup = Rollup(make, 2000, clock)
    async with background(rollup.run()):
        first = await rollup.latest()
        assert [await rollup.latest() for _ in range(100)] == [first] * 100
        assert made == [first]
        await until(lambda: bool(clock._sleepers), "it rests")
        clock.advance(1000 * RESTS - 1)
        assert made == [first]
        clock.advance(1)
        await until(lambda: len(made) == 2, "it is made again")
        await until(lambda: bool(clock._sleepers), "it rests")
        assert await rollup.latest() == made[1] == first + 1000 * (1 + RESTS)


async def test_what_took_very_long_is_made_again_all_the_same() -> None:
    clock, made = HandClock(), list[int]()

    async def make(now: int) -> int:
        made.append(now)
        clock.ms += REST_MAX_MS  # most of which it may have waited
        return now

    async with background(Rollup(make, 2000, clock).run()):
        await until(lambda: bool(clock._sleepers), "it rests")
        clock.advance(REST_MAX_MS - 1)
        assert len(made) == 1
        clock.advance(1)
        await until(lambda: len(made) == 2, "it is made again")


async def test_who_asks_before_anything_was_made_is_told_so_in_a_while() -> None:
    """A market that stops leading before it has counted ends when all who asked it have their answer."""
    clock = HandClock()

    async def never(_: int) -> int:
        raise AssertionError

    rollup = Rollup(never, 2000, clock)
    asked: list[str] = []

    async def ask() -> None:
        try:
            await rollup.latest()
        except Unavailable as error:
            asked.append(error.code)

    async with background(ask()):
        await until(lambda: bool(clock._sleepers), "it waits")
        assert not asked
        clock.advance(int(1000 * FIRST_S))
        await until(lambda: bool(asked), "it is told")
    assert asked == ["timeout"]


def test_nodes_are_read_page_by_page_in_the_order_of_their_ids_and_each_once(world: World) -> None:
    floor = world.brain.floor
    (offer, *_) = [slot.offer for slot in floor.slots.values()]
    for number in (9, 3, 250, 4):
        floor.offer(msgspec.structs.replace(offer, node=bytes([number]) * 32), world.now)
        floor.offer(msgspec.structs.replace(offer, node=bytes([number]) * 32), world.now)
        read: list[bytes] = []
        while page := floor.behind(read[-1] if read else b"", 2):
            read += page
        assert read == sorted(floor.slots)


def test_a_walk_meets_each_node_once_though_others_come_meanwhile(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(totals, "LOOKED_AT_ONCE", 2)
    floor = world.brain.floor
    (offer, *_) = [slot.offer for slot in floor.slots.values()]

    def come(*names: int) -> None:
        for name in names:
            floor.offer(msgspec.structs.replace(offer, node=bytes([name]) * 32), world.now)

    come(1, 2, 3, 4, 5)
    there, met = list(floor.slots.values()), list[Slot]()
    for portion in totals.slots_of(world.brain):
        assert len(portion) <= 2
        met += portion
        come(2, 100 + len(met))
    assert met[: len(there)] == there
    assert len(met) == len(set(met))


def test_roll_calls_look_at_very_many_nodes_as_rarely_and_call_as_often(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []

    async def story() -> tuple[list[Call], int, bytes]:
        world = RollWorld(1)
        nodes = [world.add(f"node {number}", Machine(4), 4) for number in range(4)]
        every = world.roll_calls._all_callable

        async def slow(now: int) -> AsyncIterator[list[Member]]:
            looked.append(now)
            await world.clock.sleep(LOOK_S)
            async for portion in every(now):
                yield portion

        monkeypatch.setattr(world.roll_calls, "_all_callable", slow)
        await world.live(200)
        world.brain.banned = frozenset({nodes[0].id})
        banned_at = world.clock.now_ms()
        await world.live((1 + RESTS) * LOOK_S)
        return await world.calls("group"), banned_at, nodes[0].id

    groups, banned_at, banned = played(1, story)
    assert min(after - before for before, after in pairwise(looked)) >= 1000 * (1 + RESTS) * LOOK_S
    assert len(groups) > 2 * len(looked)
    here = [{one.node for one in call.said} for call in groups if call.at < banned_at]
    later = [{one.node for one in call.said} for call in groups if call.at > banned_at]
    assert here
    assert later
    assert all(banned in members for members in here)
    assert not any(banned in members for members in later)


def test_after_the_network_was_deaf_no_silence_of_any_node_counts_and_none_is_walked_over(world: World) -> None:
    floor, at = world.brain.floor, world.now
    cold, *others = floor.slots
    floor.cool(cold, at)
    before = {node: slot.life for node, slot in floor.slots.items()}
    assert before[cold].rests(at)
    floor.amnesty(at + 1)
    floor.slots = Walked(floor.slots)
    floor.amnesty(at + 1_000_000)
    assert {node: floor.slots[node].life for node in before} == {
        node: step(life, Forgiven(at + 1_000_000))[0] for node, life in before.items()
    }
    floor.cool(cold, at + 1_000_000)
    assert floor.slots[cold].life.rests(at + 1_000_000)  # what comes afterwards counts
    floor.amnesty(at + 1_000_001)
    assert not floor.slots[cold].life.rests(at + 1_000_001)
    assert [floor.slots[node].life.seen_at for node in (cold, *others)] == [at + 1_000_001] * len(before)
