"""What streams do over every kind of link: in memory, and over WebSockets through a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from nacl.signing import SigningKey

from fallow.adapters.memory.bus import MemoryHub
from fallow.domain import calls
from fallow.domain.errors import FallowError, InvalidInput, NotAllowed, TooMuch, Unavailable
from fallow.domain.streams import Logs, Opening
from fallow.domain.wire.multiplex import UNACKED_BYTES_MAX, WINDOW_BYTES
from fallow.ports.session import SessionStream
from fallow.ports.streams import Stream
from fallow.services.relay.service import STREAMS_PER_ACCOUNT_MAX
from tests.network import until
from tests.streams_world import NEIGHBOUR, NODE, OTHER, World, node_of, opening, read_all, world

PATTERN = bytes(range(251))


@pytest.fixture(params=["memory", "websocket"])
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@asynccontextmanager
async def bounded(kind: str) -> AsyncIterator[World]:
    async with asyncio.timeout(120), world(kind) as net:
        yield net


async def send_all(stream: Stream, data: bytes) -> None:
    await stream.write(data)
    stream.end()


def content(size: int) -> bytes:
    return (PATTERN * (size // len(PATTERN) + 1))[:size]


async def test_bytes_go_there_and_back_and_each_side_ends_its_own(kind: str) -> None:
    async with bounded(kind) as net, net.echoing():
        stream = await net.relay.open(opening())
        await stream.write(b"hello ")
        assert await stream.read() == b"hello "
        await stream.write(b"again")
        stream.end()
        assert await read_all(stream) == b"again"


async def test_an_opener_elsewhere_reaches_the_node_through_the_relay(kind: str) -> None:
    async with bounded(kind) as net, net.echoing(), net.session(SigningKey.generate(), node=False) as opener:
        await opener.linked.wait()
        sent = content(3_000_000)
        stream = opener.open(opening().write())

        async def send() -> None:
            await stream.write(sent)
            stream.end()

        async with asyncio.TaskGroup() as group:
            group.create_task(send())
            assert await read_all(stream) == sent


async def test_a_cut_link_loses_and_doubles_nothing(kind: str) -> None:
    async with bounded(kind) as net, net.echoing(), net.session(SigningKey.generate(), node=False) as opener:
        await opener.linked.wait()
        sent = content(20_000_000)
        stream = opener.open(opening().write())

        async def send() -> None:
            await stream.write(sent)
            stream.end()

        got = bytearray()
        async with asyncio.TaskGroup() as group:
            group.create_task(send())
            cut_at = [2_000_000, 9_000_000, 9_100_000, 17_000_000]
            while piece := await stream.read():
                got += piece
                if cut_at and len(got) > cut_at[0]:
                    cut_at.pop(0)
                    net.cut()
        assert got == sent
        assert not cut_at
        assert len(net.served) == 1, "it is the same stream all along"


async def test_who_does_not_read_is_not_sent_to_and_holds_up_nobody(kind: str) -> None:
    async with bounded(kind) as net, net.echoing(), net.session(SigningKey.generate(), node=False) as opener:
        await opener.linked.wait()
        stalled = opener.open(opening().write())
        taken = 0

        async def push() -> None:
            nonlocal taken
            while True:
                await stalled.write(content(64 << 10))
                taken += 64 << 10

        async with asyncio.TaskGroup() as group:
            pushing = group.create_task(push())
            before = -1
            while before != taken:
                before = taken
                for _ in range(20):  # others go on meanwhile, through the same sessions
                    lively = opener.open(opening().write())
                    await lively.write(b"x" * 1000)
                    lively.end()
                    assert await read_all(lively) == b"x" * 1000
            pushing.cancel()
        # There and back over two sessions: each holds at most a window a direction, and what is on its way.
        assert taken <= 4 * WINDOW_BYTES + 4 * (256 << 10) < 2 * UNACKED_BYTES_MAX


async def test_a_node_that_is_not_there_or_goes_is_told_of(kind: str) -> None:
    async with bounded(kind) as net:
        with pytest.raises(Unavailable, match="not connected"):
            await net.relay.open(opening())
        async with net.echoing() as node:
            stream = await net.relay.open(opening())
            await stream.write(b"x")
            assert await stream.read() == b"x"
            assert node.trouble == ""
            async with net.echoing():  # the same node, begun anew: the former session is over
                with pytest.raises(Unavailable, match="connected anew"):
                    await stream.read()


async def test_what_the_node_refuses_is_told_as_it_said_it(kind: str) -> None:
    async with bounded(kind) as net:

        def refuse(stream: SessionStream) -> None:
            stream.reset(NotAllowed("test.no", "Not this one.", "Try that one."))

        async with (
            net.session(NODE, node=True, on_opened=refuse) as node,
            net.session(SigningKey.generate(), node=False) as opener,
        ):
            await node.linked.wait()
            await opener.linked.wait()
            with pytest.raises(NotAllowed, match=r"Not this one\. Try that one\. \[test\.no\]"):
                await opener.open(opening().write()).read()


@pytest.mark.parametrize(
    "twin",
    [
        opening(OTHER),
        opening(net="lab-2"),
        opening(purpose="exec"),
        opening(expires_at=1),
        Opening(opening(purpose="logs").ticket[::-1], Logs("stdout")),
    ],
)
async def test_a_ticket_that_is_not_good_opens_nothing(kind: str, twin: Opening) -> None:
    async with bounded(kind) as net, net.echoing(), net.session(SigningKey.generate(), node=False) as opener:
        await opener.linked.wait()
        with pytest.raises(NotAllowed if twin.ticket[:1] == opening().ticket[:1] else InvalidInput):
            await opener.open(twin.write()).read()
        with pytest.raises(FallowError, match="malformed"):
            await opener.open(b"nonsense").read()
        with pytest.raises(FallowError, match="malformed"):
            await opener.open(b"\x82\xa6ticket\xc4\x00\xa4want\x81\xa7purpose\xa2\xff\xfe").read()
        assert net.served == []


async def test_nobody_is_a_node_without_being_enrolled(kind: str) -> None:
    async with bounded(kind) as net:
        async with net.session(OTHER, node=True) as stranger:
            await until(lambda: "no node" in stranger.trouble, "the stranger is refused")
            assert not stranger.linked.is_set()
        with pytest.raises(Unavailable):
            await net.relay.open(opening(node=node_of(OTHER)))


async def test_a_banned_node_is_let_go_of_at_once(kind: str) -> None:
    async with bounded(kind) as net, net.echoing():
        stream = await net.relay.open(opening())
        await stream.write(b"x")
        assert await stream.read() == b"x"
        await net.bus.publish(calls.actions.BANNED, msgspec.msgpack.encode([node_of(OTHER).hex(), node_of(NODE).hex()]))
        with pytest.raises(NotAllowed, match="no node of this network"):
            await stream.read()


async def test_nobody_goes_on_with_the_session_of_another(kind: str) -> None:
    """The id of a session alone is worth nothing: it goes with the key that began it."""
    async with bounded(kind) as net:
        same_id = b"s" * 16
        async with net.echoing(), net.session(SigningKey.generate(), node=False, session_id=same_id) as owner:
            await owner.linked.wait()
            stream = owner.open(opening().write())
            await stream.write(b"mine")
            async with net.session(SigningKey.generate(), node=False, session_id=same_id) as thief:
                await thief.linked.wait()
                with pytest.raises(NotAllowed):
                    await thief.open(opening(OTHER).write()).read()
                stream.end()
                assert await read_all(stream) == b"mine"


async def test_an_account_has_so_many_streams_and_no_more(kind: str) -> None:
    async with bounded(kind) as net, net.echoing(), net.session(SigningKey.generate(), node=False) as opener:
        await opener.linked.wait()
        streams = [opener.open(opening().write()) for _ in range(STREAMS_PER_ACCOUNT_MAX)]
        for stream in streams:
            await stream.write(b"x")
            assert await stream.read() == b"x"
        with pytest.raises(TooMuch, match="of this account"):
            await opener.open(opening().write()).read()
        another = opener.open(opening(account=b"b" * 20).write())
        await another.write(b"y")
        assert await another.read() == b"y"
        streams[0].end()
        assert await read_all(streams[0]) == b""
        again = opener.open(opening().write())
        await again.write(b"z")
        assert await again.read() == b"z"


async def test_any_gateway_reaches_a_node_through_the_one_that_holds_it() -> None:
    hub = MemoryHub()
    async with asyncio.timeout(120), world("websocket", hub=hub) as one, world("websocket", hub=hub) as other:
        async with one.echoing(), other.session(SigningKey.generate(), node=False) as opener:
            await opener.linked.wait()
            for stream in (opener.open(opening().write()), await other.relay.open(opening())):
                sent = content(2_000_000)
                async with asyncio.TaskGroup() as group:
                    group.create_task(send_all(stream, sent))
                    assert await read_all(stream) == sent
            assert len(one.served) == 2
            before = await one.relay.open(opening())
            async with other.echoing():  # the node comes by the other gateway: the first one lets go of it
                with pytest.raises(Unavailable, match="another gateway"):
                    await before.read()
                again = await one.relay.open(opening())
                await again.write(b"x")
                assert await again.read() == b"x"
                assert len(other.served) == 1
        with pytest.raises(Unavailable, match="not connected"):
            await one.relay.open(opening(node=node_of(OTHER)))


async def test_two_accounts_do_not_fill_the_way_to_another_gateway() -> None:
    hub = MemoryHub()
    async with (
        asyncio.timeout(120),
        world("websocket", hub=hub) as one,
        world("websocket", hub=hub) as other,
        one.echoing(),
        one.echoing(NEIGHBOUR),
    ):
        for account in (b"a" * 20, b"b" * 20):
            for _ in range(STREAMS_PER_ACCOUNT_MAX):
                await other.relay.open(opening(account=account))
        third = await other.relay.open(opening(node=node_of(NEIGHBOUR), account=b"c" * 20))
        await third.write(b"x")
        assert await third.read() == b"x"


async def test_a_stop_of_the_relay_ends_all_streams() -> None:
    async with world("memory") as net, net.session(SigningKey.generate(), node=False) as opener, net.echoing():
        await opener.linked.wait()
        stream = opener.open(opening().write())
        await stream.write(b"x")
        assert await stream.read() == b"x"
        net.relay._sessions.drop_all(Unavailable("test.stop", "It stops."))
        with pytest.raises(Unavailable):
            await stream.read()
