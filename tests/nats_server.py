"""A real NATS server for tests: on loopback, on a free port, gone with the context."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

BINARY = Path(sys.executable).parent / "nats-server"
_START_S = 120
_LISTENING = re.compile(rb"Listening for client connections on \S+:(\d+)")


class RunningServer(NamedTuple):
    """A server that takes connections; `log` grows while it runs."""

    process: asyncio.subprocess.Process
    port: int
    log: list[str]

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://127.0.0.1:{self.port}"

    async def kill(self) -> None:
        """End the process at once, as a crash would."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def nats_server(folder: Path, config: str, *, port: int = -1) -> AsyncIterator[RunningServer]:
    """Run a server with this configuration; port -1 lets it choose one."""
    path = folder / "nats.conf"
    await asyncio.to_thread(path.write_text, config)
    process = await asyncio.create_subprocess_exec(
        BINARY, "-c", path, "-a", "127.0.0.1", "-p", str(port),
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    log: list[str] = []
    try:
        async with asyncio.timeout(_START_S):
            chosen = await _until_ready(process.stderr, log)
        async with asyncio.TaskGroup() as group:
            group.create_task(_collect(process.stderr, log))
            server = RunningServer(process, chosen, log)
            try:
                yield server
            finally:
                await server.kill()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _until_ready(lines: asyncio.StreamReader, log: list[str]) -> int:
    port = 0
    async for line in lines:
        log.append(line.decode())
        if match := _LISTENING.search(line):
            port = int(match[1])
        if b"Server is ready" in line:
            return port
    raise RuntimeError("the server did not start:\n" + "".join(log))


async def _collect(lines: asyncio.StreamReader, log: list[str]) -> None:
    async for line in lines:
        # Not one extend at the end: a test reads the log while it grows.
        log.append(line.decode())  # noqa: PERF401
