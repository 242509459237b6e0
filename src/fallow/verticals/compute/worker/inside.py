"""The way into a running sandbox, for those who may enter: a connection to a port that its program listens on.

The sandbox has a network of its own that leads nowhere. A helper process enters that network (and no other namespace,
and runs nothing of the buyer's there), connects, and hands the connected socket back. The sandbox is named by a
process descriptor, which never comes to mean another process.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from fallow.domain.errors import NotFound, Unavailable
from fallow.ports.vertical import Opened

CONNECT_S: Final = 5.0
_REFUSED: Final = 3
"""The helper's exit code when nobody listens there."""

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


@contextmanager
def way_in(process: int, opened: Opened) -> Iterator[None]:
    """Let others enter while the context is open. `process` is the descriptor of a process in the sandbox."""
    inside = SandboxInside(os.dup(process))
    opened(inside)
    try:
        yield
    finally:
        opened(None)
        inside.close()


class SandboxInside:
    """The `Inside` port; owns the descriptor."""

    def __init__(self, process: int) -> None:
        self._process: int | None = process

    def close(self) -> None:
        """Nobody enters any more."""
        if self._process is not None:
            os.close(self._process)
            self._process = None

    async def connect(self, port: int) -> socket.socket:
        """See the port."""
        if self._process is None:
            raise _ended()
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
                raise _ended()
            _, fds, _, _ = socket.recv_fds(ours, 1, 1)
        return socket.socket(fileno=fds[0])


def _ended() -> Unavailable:
    return Unavailable("stream.inside", "The sandbox cannot be entered: has it just ended?")
