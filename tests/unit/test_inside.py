"""The way into a running sandbox: to its own ports, and to nothing of the machine's."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fallow.domain.errors import NotFound, Unavailable
from fallow.ports.vertical.work import Inside
from fallow.verticals.compute.worker.inside import SandboxInside
from tests.capability import require
from tests.network import until, until_async
from tests.python_jobs import PythonCase

SHOUTS = """
import socket
server = socket.create_server(("127.0.0.1", 8000))
while True:
    connection, _ = server.accept()
    while data := connection.recv(1000):
        connection.sendall(data.upper())
    connection.close()
"""


class Running:
    """A script that runs, and the way into it."""

    def __init__(self) -> None:
        self.inside: Inside | None = None
        self.told: list[bool] = []

    def opened(self, inside: Inside | None) -> None:
        """See the port."""
        self.inside = inside
        self.told.append(inside is not None)

    async def connect(self, port: int) -> socket.socket:
        """Connect as soon as somebody listens."""
        found: list[socket.socket] = []

        async def try_it() -> bool:
            assert self.inside is not None
            try:
                found.append(await self.inside.connect(port))
            except NotFound:
                return False
            return True

        await until_async(try_it, "it listens")
        return found[0]


@asynccontextmanager
async def running(folder: Path, script: str) -> AsyncIterator[Running]:
    require("bubblewrap")
    case, made = PythonCase(folder), Running()
    async with asyncio.TaskGroup() as group:
        work = group.create_task(case.run(script, opened=made.opened))
        await until(lambda: made.inside is not None or work.done(), "the script runs")
        yield made
        case.cancel.set()
        await work
    assert made.told == [True, False]


async def test_bytes_go_to_a_port_inside_and_back(tmp_path: Path) -> None:
    async with running(tmp_path, SHOUTS) as script:
        reader, writer = await asyncio.open_connection(sock=await script.connect(8000))
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"HELLO"
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()


async def test_no_port_of_the_machine_is_reached(tmp_path: Path) -> None:
    """Something listens on this machine, on every address of it: from inside there is nothing at all."""
    with socket.create_server(("0.0.0.0", 0)) as owners:
        owners.setblocking(False)
        async with running(tmp_path, SHOUTS) as script:
            (await script.connect(8000)).close()
            assert script.inside is not None
            with pytest.raises(NotFound, match="Nothing listens"):
                await script.inside.connect(owners.getsockname()[1])
        with pytest.raises(BlockingIOError):
            owners.accept()


async def test_a_process_outside_of_a_sandbox_is_not_entered() -> None:
    """Whatever descriptor it were given: the helper connects nowhere unless it has come into another network."""
    with socket.create_server(("127.0.0.1", 0)) as owners:
        inside = SandboxInside(os.pidfd_open(os.getpid()))
        with pytest.raises(Unavailable, match="cannot be entered"):
            await inside.connect(owners.getsockname()[1])
        await inside.close()
        owners.setblocking(False)
        with pytest.raises(BlockingIOError):
            owners.accept()


async def test_nobody_enters_what_has_ended(tmp_path: Path) -> None:
    async with running(tmp_path, SHOUTS) as script:
        inside = script.inside
    assert inside is not None
    with pytest.raises(Unavailable, match="just ended"):
        await inside.connect(8000)
