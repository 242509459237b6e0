"""What a node was in the last day, as its owner is shown it: noted when something changes, never by time."""

from __future__ import annotations

from fallow.domain.day import BUSY, IDLE, OFFLINE, PAUSED, SLOT_MS, SLOTS, Day
from fallow.domain.offers import LOST_AFTER_MS
from tests.market_world import World
from tests.unit.market_orders import BIG, CHEAP, accept_all, order, submit

BEGIN = 10_000 * SLOT_MS


def test_a_slot_holds_all_that_happened_in_it_and_what_nobody_saw_is_nothing() -> None:
    day = Day(BEGIN)
    assert day.slots(BEGIN) == "0" * SLOTS
    day.turn(IDLE, BEGIN + 2 * SLOT_MS)
    day.turn(BUSY, BEGIN + 3 * SLOT_MS + 1)
    day.turn(IDLE, BEGIN + 3 * SLOT_MS + 2)
    day.turn(PAUSED, BEGIN + 5 * SLOT_MS)
    assert day.slots(BEGIN + 6 * SLOT_MS) == "0023264".zfill(SLOTS)
    day.turn(OFFLINE, BEGIN)  # too late to be put where it was: it counts from now on
    assert day.slots(BEGIN + 7 * SLOT_MS) == "002326c8".zfill(SLOTS)


def test_a_day_is_no_longer_than_a_day_however_long_nothing_happens() -> None:
    day = Day(BEGIN)
    day.turn(BUSY, BEGIN)
    day.turn(OFFLINE, BEGIN + SLOT_MS)
    assert day.slots(BEGIN + (SLOTS - 1) * SLOT_MS) == "1" + "9" + "8" * (SLOTS - 2)
    assert day.slots(BEGIN + (SLOTS + 1) * SLOT_MS) == "8" * SLOTS
    day.turn(IDLE, BEGIN + 1_000 * SLOTS * SLOT_MS)
    assert day.slots(BEGIN + 1_000 * SLOTS * SLOT_MS) == "8" * (SLOTS - 1) + "a"


class Owned:
    """The first machine of a world, as its owner sees it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.node = world.nodes[0]
        world.now = -(-world.now // SLOT_MS) * SLOT_MS  # where a slot begins
        self.hear()

    def hear(self) -> None:
        """It gives a sign of life."""
        self.world.beat(self.node)
        self.world.round()

    def live(self, slots: int) -> None:
        """Time passes, and it shows all the while that it lives."""
        for _ in range(slots * SLOT_MS // (LOST_AFTER_MS // 2)):
            self.world.now += LOST_AFTER_MS // 2
            self.world.brain.floor.beat(self.node.id, self.node.boot, self.world.now)

    def shown(self, slots: int) -> list[int]:
        """What it was in the last slots."""
        text = self.world.brain.floor.slots[self.node.id].day(self.world.now)
        assert len(text) == SLOTS
        return [int(digit, 16) for digit in text[-slots:]]


def test_an_owner_sees_when_his_machine_worked_waited_and_was_paused(world: World) -> None:
    mine = Owned(world)
    mine.live(2)
    submit(world, order())
    (lease,) = accept_all(world)
    world.now += 1
    world.final(mine.node, lease, 0, 1)
    world.round()
    mine.live(1)
    world.offer(mine.node, BIG, CHEAP, is_open=False)
    world.round()
    mine.live(2)
    assert mine.shown(5) == [IDLE, IDLE | BUSY, IDLE | PAUSED, PAUSED, PAUSED]
    world.offer(mine.node, BIG, CHEAP)
    world.round()
    assert mine.shown(1) == [PAUSED | IDLE]


def test_a_machine_that_was_away_is_shown_so_whether_it_came_back_or_not(world: World) -> None:
    mine = Owned(world)
    mine.live(1)
    world.now += 2 * SLOT_MS
    assert mine.shown(3) == [IDLE | OFFLINE, OFFLINE, OFFLINE]
    world.now += SLOT_MS
    mine.hear()
    mine.live(1)
    assert mine.shown(5) == [IDLE | OFFLINE, OFFLINE, OFFLINE, OFFLINE | IDLE, IDLE]


def test_the_networks_own_silence_hides_no_absence_and_makes_none(world: World) -> None:
    mine = Owned(world)
    mine.live(1)
    world.now += 3 * SLOT_MS  # it left, and nobody asked
    world.brain.floor.amnesty(world.now)
    world.now += 2 * SLOT_MS
    assert mine.shown(6) == [IDLE | OFFLINE, *[OFFLINE] * 5]
    mine.hear()
    mine.live(1)
    world.now += LOST_AFTER_MS - 1  # as long as the network may be deaf
    world.brain.floor.amnesty(world.now)
    mine.live(1)
    assert mine.shown(2) == [IDLE, IDLE]


def test_a_market_that_begins_says_nothing_of_what_it_has_not_heard(world: World) -> None:
    mine = Owned(world)
    mine.live(3)
    world.restart()
    assert mine.shown(3) == [0, 0, 0]
    mine.hear()
    assert mine.shown(3) == [0, 0, IDLE]
