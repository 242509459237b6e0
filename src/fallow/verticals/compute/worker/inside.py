"""The way into a running sandbox, for those who may enter: connections to ports in it, and commands.

The sandbox has a network of its own that leads nowhere. A helper process enters that network (and no other namespace,
and runs nothing of the buyer's there), connects, and hands the connected socket back. The sandbox is named by a
process descriptor, which never comes to mean another process. How a command gets in is each sandbox's own affair: its
`Entrance`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, Protocol

from fallow.domain.errors import NotAllowed, NotFound, Unavailable
from fallow.domain.streams import TerminalSize
from fallow.ports.vertical.work import Command, Opened
from fallow.verticals.compute.worker.cgroups import Part

CONNECT_S: Final = 5.0
_REFUSED: Final = 3
"""The helper's exit code when nobody listens there."""
_UNBOUNDED: Final = "This machine gives the sandbox no control group, by which a command in it could be bounded."

# It gets a process descriptor, a socket to answer on, and a port. It never connects in the network that it began in.
_HELPER: Final = f"""
import ctypes, os, socket, sys
process, answer, port = map(int, sys.argv[1:])
before = os.stat("/proc/self/ns/net").st_ino
flags = 0x40000000 | (0x10000000 if os.geteuid() else 0)  # CLONE_NEWNET, CLONE_NEWUSER
libc = ctypes.CDLL(None, use_errno=True)
if libc.setns(process, flags) or os.stat("/proc/self/ns/net").st_ino == before:
    sys.exit(1)
try:
    inside = socket.create_connection(("127.0.0.1", port), {CONNECT_S / 2})
except OSError:
    sys.exit({_REFUSED})
socket.send_fds(socket.socket(fileno=answer), [b"1"], [inside.fileno()])
"""


class Entrance(Protocol):
    """Starts commands in one sandbox."""

    def part(self, name: str) -> Part:
        """Make the group that a command and all that it starts are in; OSError when the sandbox's is gone."""
        ...

    def begin(
        self, words: Sequence[str], size: TerminalSize | None, part: Part
    ) -> AbstractAsyncContextManager[Command]:
        """Start a command; leaving the context ends it.

        Raises:
            Unavailable: it cannot be started.
        """
        ...


@asynccontextmanager
async def way_in(process: int, opened: Opened, entrance: Entrance | None) -> AsyncIterator[None]:
    """Let others enter while the context is open. `process` is the descriptor of a process in the sandbox.

    Without an `entrance` nobody starts anything.
    """
    inside = SandboxInside(os.dup(process), entrance)
    opened(inside)
    try:
        yield
    finally:
        opened(None)
        await asyncio.shield(inside.close())


class SandboxInside:
    """The `Inside` port; owns the descriptor."""

    def __init__(self, process: int, entrance: Entrance | None = None) -> None:
        self._process: int | None = process
        self._entrance = entrance
        self._parts: set[Part] = set()
        self._commands = 0

    async def close(self) -> None:
        """Nobody enters any more, and what entered ends."""
        if self._process is not None:
            os.close(self._process)
            self._process = None
        for part in list(self._parts):
            await asyncio.to_thread(part.close)

    @asynccontextmanager
    async def command(self, words: Sequence[str], size: TerminalSize | None) -> AsyncIterator[Command]:
        """See the port."""
        if self._entrance is None:
            raise NotAllowed("exec.unbounded", _UNBOUNDED)
        if self._process is None:
            raise ended()
        self._commands += 1
        part = self._made(self._entrance, f"exec-{self._commands}")
        try:
            async with self._entrance.begin(words, size, part) as command:
                yield command
        finally:
            await asyncio.shield(asyncio.to_thread(part.close))
            self._parts.discard(part)

    def _made(self, entrance: Entrance, name: str) -> Part:
        try:
            part = entrance.part(name)
        except OSError as error:
            raise ended() from error
        self._parts.add(part)
        return part

    async def connect(self, port: int) -> socket.socket:
        """See the port."""
        if self._process is None:
            raise ended()
        process = os.dup(self._process)  # it may be closed meanwhile, and its number given to another
        try:
            return await self._connect(process, port)
        finally:
            os.close(process)

    async def _connect(self, process: int, port: int) -> socket.socket:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            helper = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", "-c", _HELPER, str(process), str(theirs.fileno()), str(port),
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
                pass_fds=(process, theirs.fileno()), env={},
            )  # fmt: skip
            try:
                async with asyncio.timeout(CONNECT_S):
                    code = await helper.wait()
            except TimeoutError:
                code = None
            finally:
                if helper.returncode is None:
                    helper.kill()
                    await helper.wait()
            if code == _REFUSED:
                raise NotFound("stream.port", f"Nothing listens on port {port} in the sandbox.", "Has it started?")
            if code != 0:
                raise ended()
            _, fds, _, _ = socket.recv_fds(ours, 1, 1)
        return socket.socket(fileno=fds[0])


def ended() -> Unavailable:
    """Return the error for a sandbox that is gone."""
    return Unavailable("stream.inside", "The sandbox cannot be entered: has it just ended?")
