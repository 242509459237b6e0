"""Straight to the node where it can be reached, through the relay where not, and from one to the other on the way."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import msgspec
import pytest
from nacl.signing import SigningKey

from fallow.adapters.memory.bus import MemoryHub
from fallow.adapters.streams import direct
from fallow.adapters.streams.direct import dial_direct
from fallow.bootstrap.listening import free_port
from fallow.domain.errors import Conflict, FallowError, InvalidInput, NotAllowed, Unavailable
from fallow.domain.signing import Sign
from fallow.domain.streams import DirectOffer, Line, Logs, Opening
from fallow.domain.wire import greeting
from fallow.ports.dialling import Caller, greet
from fallow.ports.lines import StreamLink
from fallow.ports.rates import Rate
from fallow.ports.streams import Stream
from fallow.services.relay import probing
from tests.direct_world import HOST, Machine, buyer, machine, reached
from tests.network import until
from tests.streams_world import NET, NODE, OTHER, World, node_of, opening, read_all, world

PATTERN = bytes(range(251))
LOGS = Logs("stdout")


def content(size: int) -> bytes:
    return (PATTERN * (size // len(PATTERN) + 1))[:size]


@asynccontextmanager
async def bounded() -> AsyncIterator[World]:
    async with asyncio.timeout(120), world("memory") as net:
        yield net


async def test_bytes_go_straight_to_a_node_that_the_network_has_reached(tmp_path: Path) -> None:
    async with bounded() as net, machine(net, tmp_path) as node, buyer(net) as who:
        await reached(net)
        assert node.direct is not None
        await until(lambda: f"Buyers reach this machine at {HOST}" in node.direct.state, "the owner is told")  # type: ignore[union-attr]
        opened = await who.paths.open(LOGS)
        assert opened.way == "direct"
        sent = content(3_000_000)
        async with asyncio.TaskGroup() as group:
            group.create_task(_send(opened.stream, sent))
            assert await read_all(opened.stream) == sent
        assert node.lines == 0
        assert len(net.links) == 1, "the buyer has not even called the relay"
    assert [*os.scandir(tmp_path)] == [], "the certificate's key lies nowhere"


async def test_any_gateway_knows_where_a_node_was_reached(tmp_path: Path) -> None:
    hub = MemoryHub()
    async with (
        asyncio.timeout(120),
        world("memory", hub=hub) as one,
        world("memory", hub=hub) as other,
        machine(one, tmp_path),
    ):
        assert await reached(other) == await reached(one)
        one.relay._sessions.drop_all(Unavailable("test.stop", "The relay begins anew."))
        assert await other.relay.direct(node_of(NODE)) is None


async def test_a_direct_line_that_dies_is_taken_over_by_the_relay_without_losing_a_byte(tmp_path: Path) -> None:
    async with bounded() as net, machine(net, tmp_path) as node, buyer(net) as who:
        await reached(net)
        opened = await who.paths.open(LOGS)
        assert opened.way == "direct"
        sent, got = content(12_000_000), bytearray()
        async with asyncio.TaskGroup() as group:
            group.create_task(_send(opened.stream, sent))
            while piece := await opened.stream.read():
                got += piece
                if len(got) > 5_000_000 and who.links:
                    who.reach = False  # the port is shut from now on
                    who.cut()
        assert got == sent
        assert node.lines == 1, "the rest went through the relay"
        assert len(node.served) == 1, "it is the same stream all along"
        assert (await who.paths.open(LOGS)).way == "relayed"


async def test_a_relayed_session_goes_back_to_a_direct_line(tmp_path: Path) -> None:
    async with bounded() as net, machine(net, tmp_path) as node, buyer(net) as who:
        await reached(net)
        who.reach = False
        opened = await who.paths.open(LOGS)
        assert opened.way == "relayed"
        await opened.stream.write(b"one")
        assert await opened.stream.read() == b"one"
        assert node.lines == 1
        who.reach = True
        net.relay._sessions.drop_all(Unavailable("test.stop", "The relay begins anew."))
        await opened.stream.write(b"two")
        opened.stream.end()
        assert await read_all(opened.stream) == b"two"
        assert who.links, "it was dialled directly"
        assert len(node.served) == 1


@pytest.mark.parametrize("way", ["direct", "relayed through a direct session", "relayed"])
async def test_who_leaves_says_so_and_what_served_him_ends_at_once(way: str, tmp_path: Path) -> None:
    """Else the session is held for half a minute, should he come back, and is then lost for another reason."""
    async with bounded() as net, AsyncExitStack() as stack:
        if way == "relayed":
            served = net.served
            await stack.enter_async_context(net.echoing())
        else:
            served = (await stack.enter_async_context(machine(net, tmp_path))).served
            await reached(net)
        async with buyer(net) as who:
            who.reach = way == "direct"
            stream = (await who.paths.open(LOGS)).stream
            await stream.write(b"x")
            assert await stream.read() == b"x"
            (other,) = served
            stream.reset(Conflict("test.left", "He has gone."))
            await who.paths.leave()
            with pytest.raises(Conflict, match="He has gone"):
                await other.read()


async def test_without_a_direct_address_it_is_the_relay_alone() -> None:
    async with bounded() as net, net.echoing(), buyer(net) as who:
        opened = await who.paths.open(LOGS)
        assert opened.way == "relayed"
        await opened.stream.write(b"x")
        assert await opened.stream.read() == b"x"


async def test_what_the_network_does_not_reach_it_tells_nobody_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twins of an offer, each with one thing wrong: the node hears why, and no buyer hears of it."""
    monkeypatch.setattr(probing, "OFFERS_PER_NODE", Rate(1000.0, 1000))
    async with bounded() as net, net.session(NODE, node=True) as session:
        await session.linked.wait()
        door, others = Machine(net, tmp_path, NODE), Machine(net, tmp_path, OTHER)
        async with (
            door.listen(door.door.attend) as (port, certificate),
            others.listen(others.door.attend) as (others_port, others_certificate),
            door.listen(others.door.attend) as (stolen_port, stolen_certificate),
        ):
            good = DirectOffer(net=NET, node=node_of(NODE), port=port, certificate=certificate, probe=door.door.probe)
            changed = partial(msgspec.structs.replace, good)
            stolen = changed(port=stolen_port, certificate=stolen_certificate, probe=others.door.probe)
            twins = [
                (changed(port=free_port(HOST)), NODE, "direct.unreachable"),
                (changed(certificate=others_certificate), NODE, "tls.untrusted"),
                (changed(port=others_port, certificate=others_certificate), NODE, "tls.untrusted"),
                (changed(certificate="none"), NODE, "direct.unreachable"),
                # Who has the certificate's key, but not the node's, is found out by its proof.
                (stolen, NODE, "signing.signature"),
                (changed(probe=bytes(32)), NODE, "encoding.not_deterministic"),
                (changed(node=node_of(OTHER)), NODE, "direct.offer"),
                (changed(net="lab-2"), NODE, "direct.offer"),
                (good, OTHER, "signing.signature"),
            ]
            for number, (offer, signer, code) in enumerate(twins):
                stream = session.open(offer.seal(signing(signer)))
                with pytest.raises(FallowError) as caught:
                    await stream.read()
                assert caught.value.code == code, number
                assert await net.relay.direct(node_of(NODE)) is None
            kept = session.open(good.seal(signing(NODE)))
            assert await kept.read() == HOST.encode()
            assert await net.relay.direct(node_of(NODE)) is not None
            again = session.open(good.seal(signing(NODE)))
            with pytest.raises(Conflict, match="already"):
                await again.read()
            kept.end()
            assert await kept.read() == b""
            assert await net.relay.direct(node_of(NODE)) is None


async def test_a_node_is_tried_so_often_and_no_more() -> None:
    async with bounded() as net, net.session(NODE, node=True) as session:
        await session.linked.wait()
        for number in range(probing.OFFERS_PER_NODE.burst + 1):
            with pytest.raises(FallowError) as caught:
                await session.open(b"nonsense").read()
            assert (caught.value.code == "rate.requests") == (number == probing.OFFERS_PER_NODE.burst)


async def test_nobody_gets_in_without_a_ticket_for_this_very_node(tmp_path: Path) -> None:
    async with bounded() as net, machine(net, tmp_path) as node:
        at = await reached(net)
        twins = [
            b"",
            b"nonsense",
            bytes(32),
            opening(node=node_of(OTHER)).ticket,
            opening(expires_at=1).ticket,
            opening(net="lab-2").ticket,
            opening(OTHER).ticket,
        ]
        for ticket in twins:
            async with dial_direct(at, node_of(NODE)) as link:
                with pytest.raises((NotAllowed, InvalidInput)):
                    await greet(link, _caller(ticket), bytes(16), fresh=True)
        async with dial_direct(at, node_of(NODE)) as link:
            with pytest.raises(NotAllowed, match="Nodes have nothing"):
                await greet(link, _caller(opening().ticket)._replace(node=True), bytes(16), fresh=True)
        async with dial_direct(at, node_of(NODE)) as link:
            with pytest.raises(
                NotAllowed, match=r"not signed by the expected key"
            ):  # who dials finds out whom he has dialled
                await greet(link, _caller(opening().ticket)._replace(peer=node_of(OTHER)), bytes(16), fresh=True)
        assert node.served == []
        async with dial_direct(at, node_of(NODE)) as link:
            await greet(link, _caller(opening().ticket), bytes(16), fresh=True)


async def test_strangers_bytes_end_with_their_connection_and_nobody_elses(tmp_path: Path) -> None:
    async with bounded() as net, machine(net, tmp_path), buyer(net) as who:
        at = await reached(net)
        opened = await who.paths.open(LOGS)
        for noise in (b"GET / HTTP/1.1\r\n\r\n", bytes(1000), b"\x16\x03\x01\xff\xff" + bytes(5000)):
            reader, writer = await asyncio.open_connection(at.host, at.port)
            writer.write(noise)
            with suppress(OSError):
                await reader.read()
            writer.transport.abort()
        for message in (b"", b"x" * 5000, b"\xff\xff\xff\xff"):
            async with dial_direct(at, node_of(NODE)) as link:
                await link.receive()
                if message == b"\xff\xff\xff\xff":
                    assert link._transport is not None
                    link._transport.write(message)
                else:
                    await link.send(message)
                with pytest.raises(FallowError):
                    greeting.read(await link.receive())
        await opened.stream.write(b"still here")
        assert await opened.stream.read() == b"still here"


async def test_one_address_takes_its_part_of_the_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who holds connections without even beginning TLS has so many and no more, and they end by themselves."""
    monkeypatch.setattr(direct, "CONNECTIONS_PER_ADDRESS_MAX", 3)
    async with bounded() as net, machine(net, tmp_path):
        at = await reached(net)
        silent = [await asyncio.open_connection(at.host, at.port) for _ in range(3)]
        reader, one_more = await asyncio.open_connection(at.host, at.port)
        assert await reader.read() == b"", "it is closed at once"
        for writer in (one_more, *(each for _, each in silent)):
            writer.transport.abort()


async def test_a_session_through_the_relay_carries_no_other(tmp_path: Path) -> None:
    async with bounded() as net, machine(net, tmp_path) as node, buyer(net) as who:
        await reached(net)
        who.reach = False
        relayed = (await who.paths.relay()).open(Opening(opening().ticket, Line()).write())
        link = StreamLink(relayed)
        await greet(link, _caller(opening().ticket)._replace(peer=node_of(NODE)), bytes(16), fresh=True)
        assert node.lines == 1


def _caller(ticket: bytes) -> Caller:
    key = SigningKey.generate()
    return Caller(NET, node_of(key), signing(key), node=False, ticket=lambda: ticket)


def signing(key: SigningKey) -> Sign:
    return lambda message: key.sign(message).signature


async def _send(stream: Stream, data: bytes) -> None:
    await stream.write(data)
    stream.end()
