"""Pieces go through the network's relay, or straight to nodes that can be dialled, over sessions that end when idle."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import NamedTuple

import pytest

from fallow.adapters.clock import SystemClock
from fallow.adapters.memory.links import link_pair
from fallow.agent.door import NodeDoor
from fallow.agent.identity import NodeKey
from fallow.domain.errors import FallowError, Unavailable
from fallow.domain.streams import DirectAddress, Service, read_opening
from fallow.ports.session import SessionStream
from fallow.ports.streams import Link
from fallow.ports.tasks import background
from fallow.verticals.storage.client import lines as storage_lines
from fallow.verticals.storage.client.keys import keys_under
from fallow.verticals.storage.client.lines import IDLE_MS, LOOK_S, SESSION_STREAMS, Lines
from fallow.verticals.storage.client.objects import ObjectStore
from fallow.verticals.storage.client.opening import opened_store
from fallow.verticals.storage.client.store import Head, Marks
from fallow.verticals.storage.core.profiles import Profile
from tests import streams_world
from tests.memory_control import MemoryControl
from tests.memory_nodes import NET, NETWORK_KEY, MemoryNode
from tests.storage_world import ACCOUNT
from tests.unit.agent_fakes import FakeClock
from tests.unit.test_storage_client import DATA, body, ended

TWO = Profile("two", 1, 1, 2, 2)
ADDRESS = DirectAddress(host="127.0.0.1", port=1024, certificate="")


class Reached(NamedTuple):
    """A store over lines to two nodes that serve pieces."""

    lines: Lines
    store: ObjectStore
    control: MemoryControl
    net: streams_world.World
    doors: dict[bytes, NodeDoor]
    dialled: list[bytes]


@asynccontextmanager
async def reached(*, listens: bool = True) -> AsyncIterator[Reached]:
    clock, doors, dialled = SystemClock(), dict[bytes, NodeDoor](), list[bytes]()

    async def serve(node: MemoryNode, stream: SessionStream) -> None:
        want = read_opening(stream.opening).want
        assert isinstance(want, Service)
        try:
            await node.serve(stream, want.request)
        except FallowError as error:
            stream.reset(error)

    async with AsyncExitStack() as stack:
        net = await stack.enter_async_context(streams_world.world("memory"))
        nodes = [MemoryNode(key, clock) for key in (streams_world.NODE, streams_world.NEIGHBOUR)]
        for node in nodes:

            def take(stream: SessionStream, node: MemoryNode = node) -> None:
                net.spawn(serve(node, stream))

            session = await stack.enter_async_context(net.session(node.key, node=True, on_opened=take))
            await session.linked.wait()
            doors[node.id] = NodeDoor(
                NET, NodeKey(bytes(node.key)), NETWORK_KEY, clock, random_bytes=os.urandom, spawn=net.spawn, take=take
            )

        @asynccontextmanager
        async def direct(_: DirectAddress, node: bytes) -> AsyncIterator[Link]:
            if not listens:
                raise Unavailable("stream.link", "Nobody listens there.")
            dialled.append(node)
            near, far = link_pair()
            attending = net.spawn(doors[node].attend(far, "127.0.0.1"))
            try:
                yield near
            finally:
                near.cut()
                await asyncio.wait({attending})

        group = await stack.enter_async_context(asyncio.TaskGroup())
        lines = Lines(NET, net.dial, direct, clock, random_bytes=os.urandom, group=group)
        stack.callback(lines.close)
        control = MemoryControl(nodes, clock, profile=TWO)
        store = await stack.enter_async_context(
            opened_store(
                NET,
                NETWORK_KEY,
                control,
                lines,
                clock,
                keys_of=keys_under(lambda _: bytes(32), os.urandom),
                random_bytes=os.urandom,
            )
        )
        await store.make_bucket(ACCOUNT, "bucket", settings={})
        yield Reached(lines, store, control, net, doors, dialled)


async def there_and_back(world: Reached) -> None:
    entry = await world.store.put(ACCOUNT, "bucket", "k", body(DATA), lambda: ended(DATA), head=Head(), marks=Marks())
    chunks = [chunk async for chunk in world.store.read(ACCOUNT, "bucket", entry, 0, len(DATA))]
    assert b"".join(chunks) == DATA


async def test_an_object_goes_through_the_relay() -> None:
    async with reached() as world:
        await there_and_back(world)
        assert not world.dialled


async def test_nodes_that_can_be_dialled_are_and_once() -> None:
    async with reached() as world:
        world.control.direct = dict.fromkeys(world.doors, ADDRESS)
        await there_and_back(world)
        await there_and_back(world)
        assert sorted(world.dialled) == sorted(world.doors)


async def test_nodes_that_cannot_be_dialled_are_reached_through_the_relay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_lines, "DIRECT_S", 0.05)
    async with reached(listens=False) as world:
        world.control.direct = dict.fromkeys(world.doors, ADDRESS)
        await there_and_back(world)


async def test_no_more_nodes_are_dialled_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_lines, "NODE_SESSIONS_MAX", 1)
    async with reached() as world:
        world.control.direct = dict.fromkeys(world.doors, ADDRESS)
        await there_and_back(world)
        await there_and_back(world)
        assert len(world.dialled) == 1


async def test_a_session_that_breaks_is_made_again() -> None:
    async with reached() as world:
        await there_and_back(world)
        world.net.cut()
        await there_and_back(world)


async def test_more_streams_than_a_session_carries_go_over_several_which_end_when_idle() -> None:
    async with reached() as world, asyncio.TaskGroup() as group:
        clock = FakeClock()
        nobody = Unavailable("stream.direct", "Nobody is dialled here.")

        def direct(_: DirectAddress, __: bytes) -> AbstractAsyncContextManager[Link]:
            raise nobody

        lines = Lines(NET, world.net.dial, direct, clock, random_bytes=os.urandom, group=group)
        async with background(lines.run()):
            place = world.control.place(world.control.nodes[0].id)
            streams = await asyncio.gather(*(lines.open(place, b"") for _ in range(2 * SESSION_STREAMS)))
            assert lines.sessions == 2
            for stream in streams:
                stream.reset(nobody)
            await clock.advance(IDLE_MS / 1000 + 2 * LOOK_S)
            assert lines.sessions == 0
        lines.close()
