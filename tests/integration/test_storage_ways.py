"""Pieces go to a node and come back by the relay, by its own door, and over a session with it through the relay."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from fallow.adapters.streams.direct import dial_direct, listening
from fallow.agent.book import Book
from fallow.agent.direct import Direct
from fallow.agent.identity import NodeKey
from fallow.agent.leases import Leases
from fallow.agent.live import Live
from fallow.agent.services import Services
from fallow.domain.errors import Conflict, TooMuch
from fallow.domain.resources import Resources
from fallow.domain.streams import Line, Opening, StreamTicket, service_purpose
from fallow.ports.dialling import Caller, DialledSession
from fallow.ports.lines import StreamLink
from fallow.ports.streams import Link
from fallow.ports.tasks import background
from fallow.services.relay import service as relay_service
from fallow.verticals.storage.core import wire
from fallow.verticals.storage.worker.worker import StorageWorker
from tests.direct_world import HOST, reached
from tests.storage_node import CLIENT, Client, Node, sealed
from tests.streams_world import NET, NETWORK, NODE, World, node_of, world

DATA = random.Random(5).randbytes(3_000_000)
TICKET = sealed(
    NETWORK,
    StreamTicket(
        net=NET,
        node=node_of(NODE),
        lease=b"",
        account=node_of(CLIENT),
        purpose=service_purpose("storage"),
        expires_at=2**53,
    ),
)


class Machine:
    """A node at the relay that keeps pieces and can be dialled itself."""

    def __init__(self, net: World, folder: Path) -> None:
        self.net = net
        self.node = Node(folder, net.clock)
        self.worker = StorageWorker(self.node.ground)
        self.live = Live(
            Leases(Book(Resources(cpu_milli=1000, memory_mib=1024, disk_mib=1024)), []),
            Services({"storage": self.worker}, node_of(NODE).hex()),
            net.clock,
            net=NET,
            key=NodeKey(bytes(NODE)),
            network_key=node_of(NETWORK),
            work=folder,
            random_bytes=os.urandom,
        )

    @asynccontextmanager
    async def relayed(self) -> AsyncIterator[DialledSession]:
        """A session with the relay."""
        async with self.net.session(CLIENT, node=False) as session:
            await session.linked.wait()
            yield session

    @asynccontextmanager
    async def direct(self) -> AsyncIterator[DialledSession]:
        """A session with the node, dialled."""
        at = await reached(self.net)
        async with self._own(lambda: dial_direct(at, node_of(NODE))) as session:
            yield session

    @asynccontextmanager
    async def line(self) -> AsyncIterator[DialledSession]:
        """A session with the node, carried by the relay."""
        async with self.relayed() as relay:

            @asynccontextmanager
            async def dial() -> AsyncIterator[Link]:
                yield StreamLink(relay.open(Opening(TICKET, Line()).write()))

            async with self._own(dial) as session:
                yield session

    @asynccontextmanager
    async def _own(self, dial: Callable[[], AbstractAsyncContextManager[Link]]) -> AsyncIterator[DialledSession]:
        session = DialledSession(
            Caller(
                NET,
                node_of(CLIENT),
                lambda message: CLIENT.sign(message).signature,
                node=False,
                ticket=lambda: TICKET,
                peer=node_of(NODE),
            ),
            dial,
            self.net.clock,
            random_bytes=os.urandom,
            jitter=random.Random(1),
            on_opened=lambda stream: stream.reset(Conflict("test.nothing", "Nothing is served here.")),
        )
        async with background(session.hold()):
            await session.linked.wait()
            yield session


@asynccontextmanager
async def machine(net: World, folder: Path) -> AsyncIterator[Machine]:
    made = Machine(net, folder)
    probe = await made.worker.probe()
    assert probe.attributes == {"storage.bytes": str(64 << 20)}
    listen = partial(_listen, net, folder)
    async with net.session(NODE, node=True, on_opened=made.live.take) as session:
        await session.linked.wait()
        direct = Direct(made.live.door, session, listen, net.clock)
        async with background(made.live.run(), direct.run(), made.worker.report(made.node._say)):
            yield made
    made.worker.close()


@asynccontextmanager
async def _listen(net: World, folder: Path, attend: object) -> AsyncIterator[tuple[int, str]]:
    async with listening(HOST, 0, node_of(NODE), attend, net.clock, folder) as found:  # type: ignore[arg-type]
        yield found


@pytest.mark.parametrize("way", ["relayed", "direct", "line"])
async def test_pieces_move_whichever_way(tmp_path: Path, way: str) -> None:
    async with asyncio.timeout(120), world("websocket") as net, machine(net, tmp_path) as made:
        terms = made.node.terms
        async with getattr(made, way)() as session:
            client = Client(session.open, TICKET)
            async with asyncio.TaskGroup() as group:
                for number in range(1, 7):
                    group.create_task(client.put(terms.limit(number, piece=bytes([number]) * 32), DATA))
            parts = [(0, len(DATA)), (1_000_000, 2_000_000), (len(DATA) - 1, len(DATA))]
            for number, (start, stop) in enumerate(parts, 10):
                limit = terms.limit(number, "get", piece=bytes([number - 9]) * 32)
                assert await client.get(limit, start, stop) == DATA[start:stop]
            with pytest.raises(Conflict):
                await client.put(terms.limit(1), DATA)


async def test_a_gateway_has_more_streams_than_people_and_bounded_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_service, "SERVICE_STREAMS_PER_ACCOUNT_MAX", 40)
    async with asyncio.timeout(120), world("memory") as net, machine(net, tmp_path) as made, made.relayed() as session:
        client = Client(session.open, TICKET)
        talks = []
        for number in range(40):
            talks.append(client.open(_put(made, number)))
            await talks[-1].hear()
        with pytest.raises(TooMuch, match="of this account"):
            await client.open(_put(made, 40)).hear()


def _put(made: Machine, number: int) -> bytes:
    limit = made.node.terms.limit(number, piece=bytes([number]) * 32)
    return wire.write(wire.Put(sealed(NETWORK, limit), 1000))
