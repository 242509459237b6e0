"""What buyers see of their work on a node: only theirs, only while it runs, as it is written."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType

import pytest

from fallow.adapters.memory.links import link_pair
from fallow.agent.book import Book
from fallow.agent.identity import NodeKey
from fallow.agent.leases import Leases, Take
from fallow.agent.live import Live
from fallow.agent.services import Services
from fallow.domain.errors import FallowError, NotAllowed, NotFound
from fallow.domain.resources import Resources
from fallow.domain.streams import Logs, Opening
from fallow.ports.session import Session, SessionStream
from fallow.ports.vertical.worker import Worker
from tests.streams_world import LEASE, NET, NETWORK, NODE, OTHER, node_of, opening, read_all
from tests.unit.agent_fakes import FakeClock, World, settle


class Machine:
    """A node that holds one lease, and a session to it."""

    def __init__(self, folder: Path, workers: Mapping[str, Worker]) -> None:
        self.clock = FakeClock()
        self.workspace = folder / LEASE.hex()
        self.workspace.mkdir()
        leases = Leases(Book(Resources(cpu_milli=1000, memory_mib=1024, disk_mib=1024)), ["compute"])
        proposal = World(folder / "agent").proposal(lease=LEASE.hex(), answer_by=2**60)
        decision = leases.decide(proposal, "")
        assert isinstance(decision, Take)
        self.held = decision.held
        self.live = Live(
            leases,
            Services(workers, node_of(NODE).hex()),
            self.clock,
            net=NET,
            key=NodeKey(bytes(NODE)),
            network_key=node_of(NETWORK),
            work=folder,
            random_bytes=os.urandom,
        )
        self.session = Session(dialled=True, on_opened=lambda _: None)

    def open(self, asked: Opening) -> SessionStream:
        """Open a stream, as a relay does."""
        return self.session.open(asked.write())


@asynccontextmanager
async def machine(folder: Path, workers: Mapping[str, Worker] = MappingProxyType({})) -> AsyncIterator[Machine]:
    made = Machine(folder, workers)
    near, far = link_pair()
    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        side = Session(dialled=False, on_opened=made.live.take)
        tasks = [
            group.create_task(made.live.run()),
            group.create_task(made.session.drive(near)),
            group.create_task(side.drive(far)),
        ]
        await settle()
        yield made
        for task in tasks:
            task.cancel()


async def test_a_log_is_followed_while_it_is_written_and_ends_with_the_work(tmp_path: Path) -> None:
    async with machine(tmp_path) as node:
        stream = node.open(opening(want=Logs("stdout", follow=True)))
        await node.clock.advance(1)
        with (node.workspace / "stdout").open("wb", buffering=0) as log:
            for line in (b"one\n", b"two\n"):
                log.write(line)
                await node.clock.advance(0.3)
                assert await stream.read() == line
            log.write(b"last words\n")
        node.held.over.set()
        await node.clock.advance(0.3)
        assert await read_all(stream) == b"last words\n"


async def test_without_following_it_is_what_is_there_from_an_offset_on(tmp_path: Path) -> None:
    async with machine(tmp_path) as node:
        (node.workspace / "stderr").write_bytes(bytes(range(256)) * 1000)
        assert await read_all(node.open(opening(want=Logs("stderr", 100_000)))) == (bytes(range(256)) * 1000)[100_000:]
        assert await read_all(node.open(opening(want=Logs("stdout")))) == b""


async def test_a_log_that_is_no_file_of_the_program_is_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "node.key"
    secret.write_bytes(b"secret")
    async with machine(tmp_path) as node:
        (node.workspace / "stdout").symlink_to(secret)
        assert await read_all(node.open(opening(want=Logs("stdout")))) == b""
        (node.workspace / "stderr").mkdir()
        assert await read_all(node.open(opening(want=Logs("stderr")))) == b""


@pytest.mark.parametrize(
    ("twin", "error"),
    [
        (opening(OTHER), NotAllowed),
        (opening(net="lab-2"), NotAllowed),
        (opening(node=node_of(OTHER)), NotAllowed),
        (opening(purpose="exec"), NotAllowed),
        (opening(expires_at=1), NotAllowed),
        (opening(lease=bytes(16)), NotFound),
        (Opening(b"", Logs("stdout")), FallowError),
    ],
)
async def test_the_node_itself_checks_every_ticket(tmp_path: Path, twin: Opening, error: type[FallowError]) -> None:
    async with machine(tmp_path) as node:
        (node.workspace / "stdout").write_bytes(b"private")
        with pytest.raises(error):
            await read_all(node.open(twin))
        with pytest.raises(FallowError, match="malformed"):
            await read_all(node.session.open(b"\xff"))
        assert await read_all(node.open(opening())) == b"private"
