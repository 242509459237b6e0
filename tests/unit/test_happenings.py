"""What everybody sees happen: what the market tells of it, and how it gets to who looks on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import msgspec
import pytest

from fallow.adapters.memory.bus import MemoryHub
from fallow.domain.calls.processes import HAPPENINGS
from fallow.domain.happenings import SHOWN_AT_ONCE_MAX, Gathering, Happening, Happenings
from fallow.domain.networks import line_of
from fallow.http.happenings import look_on
from fallow.http.onlookers import KEPT, READERS_MAX, READERS_PER_ADDRESS, WAITING_MAX, Onlookers
from fallow.ports.happenings import show
from tests.market_world import World
from tests.network import until
from tests.unit.fake_network import HandClock, fake_network
from tests.unit.http_world import browser
from tests.unit.market_orders import accept_all, order, submit
from tests.unit.market_orders import world as world  # noqa: PLC0414 - a fixture


def test_the_market_tells_who_joined_and_worked_and_nothing_of_who_bought(world: World) -> None:
    submit(world, order())
    (lease,) = accept_all(world)
    world.wait(1000)
    world.final(world.nodes[0], lease, 0, 1000)
    world.settle()
    node = world.nodes[0].id.hex()
    assert [(one.kind, one.node, one.vertical, one.ok) for one in world.sent.happened] == [
        ("node.joined", node, "", True),
        ("lease.began", node, "compute", True),
        ("lease.ended", node, "compute", True),
    ]
    told = msgspec.json.encode(world.sent.happened).decode()
    assert not [secret for secret in (order().id, lease.hex(), world.buyers[0].hex()) if secret in told]


def test_a_lease_that_failed_is_told_as_that_and_one_that_never_began_is_not(world: World) -> None:
    submit(world, order())
    (lease,) = accept_all(world)
    world.final(world.nodes[0], lease, 0, 0, ok=False, result=None, reason="program.failed", caused_by="buyer")
    world.settle()
    assert [(one.kind, one.ok) for one in world.sent.happened[1:]] == [("lease.began", True), ("lease.ended", False)]
    submit(world, order(2))
    (proposed,) = world.brain.leases
    world.decline(world.nodes[0], proposed)
    world.settle()
    assert len(world.sent.happened) == 3


def test_what_happens_in_one_go_is_told_up_to_a_bound_and_counted_beyond() -> None:
    gathering = Gathering()
    assert gathering.take() is None
    for at in range(SHOWN_AT_ONCE_MAX + 5):
        gathering.add(one(at))
    taken = gathering.take()
    assert taken is not None
    assert ([each.at for each in taken.shown], taken.more) == ([*range(SHOWN_AT_ONCE_MAX)], 5)
    assert gathering.take() is None


@pytest.fixture
async def onlookers() -> AsyncIterator[Onlookers]:
    hub = MemoryHub()
    onlookers = Onlookers(hub.connect(), HandClock())
    async with onlookers.hearing():
        yield onlookers


def one(at: int) -> Happening:
    return Happening(at=at, kind="lease.began", node="ab" * 32, vertical="compute")


def heard(onlookers: Onlookers, at: int) -> bool:
    return onlookers.latest().shown[-1].at == at


def has(browser: Browser, count: int) -> bool:
    return len(browser.got) == count


class Browser:
    """Takes what is sent until it is told to take nothing more."""

    def __init__(self) -> None:
        self.got: list[Happenings] = []
        self.takes = asyncio.Event()
        self.takes.set()
        self._stays = asyncio.Event()

    async def receive(self) -> Any:
        """Return when it leaves."""
        await self._stays.wait()
        return {"type": "http.disconnect"}

    def leave(self) -> None:
        """Close the page."""
        self._stays.set()

    async def send(self, message: Any) -> None:
        """Read what came, once it takes anything."""
        await self.takes.wait()
        for block in message["body"].decode().split("\n\n"):
            if block.startswith("event: happened\ndata: "):
                self.got.append(msgspec.json.decode(block.partition("data: ")[2], type=Happenings))


async def test_who_looks_on_is_told_what_was_and_then_what_comes_once_a_second(onlookers: Onlookers) -> None:
    clock, browser, late = onlookers._clock, Browser(), Browser()
    assert isinstance(clock, HandClock)
    await show(onlookers._bus, Happenings(shown=[one(at) for at in range(KEPT + 3)]))
    await until(lambda: len(onlookers.latest().shown) == KEPT, "all is kept")
    async with asyncio.TaskGroup() as group:
        group.create_task(look_on(onlookers, clock, 3600.0, browser.receive, browser.send))
        await until(lambda: bool(browser.got), "what was")
        assert [each.at for each in browser.got[0].shown] == [*range(3, KEPT + 3)]
        for at in (100, 101):
            await show(onlookers._bus, Happenings(shown=[one(at)]))
        await until(lambda: onlookers.latest().shown[-1].at == 101, "both are heard")
        assert len(browser.got) == 1  # something was passed on within this second
        group.create_task(look_on(onlookers, clock, 3600.0, late.receive, late.send))
        await until(lambda: bool(late.got), "what was, to another")
        clock.advance(1000)
        await until(lambda: len(browser.got) == len(late.got) == 2, "what came")
        assert [each.at for each in browser.got[1].shown] == [100, 101]
        assert [each.at for told in late.got for each in told.shown] == [*range(5, KEPT + 3), 100, 101]
        browser.leave()
        late.leave()
    assert not onlookers._readers


async def test_who_takes_nothing_is_let_go_and_holds_nobody_up(onlookers: Onlookers) -> None:
    clock, slow, quick = onlookers._clock, Browser(), Browser()
    assert isinstance(clock, HandClock)
    slow.takes.clear()
    async with asyncio.TaskGroup() as group:
        left = group.create_task(look_on(onlookers, clock, 3600.0, slow.receive, slow.send))
        stays = group.create_task(look_on(onlookers, clock, 3600.0, quick.receive, quick.send))
        await until(lambda: len(quick.got) == 1, "the quick one looks on")
        for round_ in range(WAITING_MAX + 1):
            await show(onlookers._bus, Happenings(shown=[one(round_)]))
            await until(partial(heard, onlookers, round_), "it is heard")
            clock.advance(1000)
            await until(partial(has, quick, round_ + 2), "the quick one has it")
        await left
        assert not slow.got
        assert not stays.done()
        quick.leave()


async def test_nonsense_on_the_bus_is_passed_over(onlookers: Onlookers) -> None:
    await onlookers._bus.publish(HAPPENINGS, b'{"shown": 3}')
    await show(onlookers._bus, Happenings(shown=[one(1)]))
    await until(lambda: bool(onlookers.latest().shown), "it goes on")


async def test_an_address_has_so_many_streams_and_no_more() -> None:
    async with (
        fake_network() as network,
        browser(network) as http,
    ):
        onlookers = network.app.state.gateway.onlookers
        assert (await http.get("/v1/happenings")).json() == {"shown": [], "more": 0}
        with ExitStack() as held:
            for _ in range(READERS_PER_ADDRESS):
                held.enter_context(onlookers.per_address.opened(line_of("127.0.0.1")))
            answer = await http.get("/v1/happenings/events")
            assert (answer.status_code, answer.json()["code"]) == (429, "rate.streams")
        with ExitStack() as held:
            for _ in range(READERS_MAX):
                held.enter_context(onlookers.altogether.opened("all"))
            assert (await http.get("/v1/happenings/events")).status_code == 429
        with onlookers.per_address.opened(line_of("127.0.0.1")):  # what was refused holds nothing
            assert onlookers.per_address._open.total() == 1
