"""What everybody may ask of all nodes: nobody who asks makes the network walk over them."""

from __future__ import annotations

import msgspec

from fallow.domain.errors import Unavailable
from fallow.ports.tasks import background
from fallow.services.market.rollup import FIRST_S, RESTS, Rollup
from tests.market_world import World
from tests.network import until
from tests.unit.fake_network import HandClock


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
