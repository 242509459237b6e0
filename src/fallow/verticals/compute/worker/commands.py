"""A command in a sandbox as this process sees it: what it reads and writes, and its end with all that it started."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import struct
import termios
import tty
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from fallow.domain.errors import Unavailable
from fallow.domain.streams import TerminalSize
from fallow.ports.vertical.work import Exit
from fallow.verticals.compute.worker.cgroups import Part

CHUNK_BYTES: Final = 64 << 10
"""So much of its output is held, or a little more: then it waits for its reader."""
_SIGNALLED: Final = 128


class Ends(NamedTuple):
    """The ends of a command's pipes, or of its terminal: `master`, which `reading` reads from."""

    stdin: asyncio.StreamWriter
    stdout: asyncio.StreamReader
    stderr: asyncio.StreamReader | None
    master: int | None = None
    reading: asyncio.BaseTransport | None = None

    def close(self) -> None:
        """Let go of them."""
        if not self.stdin.transport.is_closing():
            self.stdin.transport.abort()
        if self.reading is not None:
            self.reading.close()
        if self.master is not None:
            os.close(self.master)


class Spawned:
    """The `Command` port over a process of this machine that stands for the one in the sandbox.

    `part` is the group of all that the command starts.
    """

    def __init__(self, process: asyncio.subprocess.Process, ends: Ends, part: Part) -> None:
        self.stdin = ends.stdin
        self.stdout = ends.stdout
        self.stderr = ends.stderr
        self.pid = process.pid
        self._process = process
        self._master = ends.master
        self._part = part

    def resize(self, size: TerminalSize) -> None:
        """See the port."""
        if self._master is not None:
            _set_size(self._master, size)

    async def wait(self) -> Exit:
        """See the port."""
        await has_ended(self.pid)  # asyncio's `wait` may wait for whoever holds its pipes
        return await self.cut()

    async def cut(self) -> Exit:
        """End all that the command has started: what it left behind would hold its pipes open."""
        await asyncio.to_thread(self._part.kill)
        code = await self._process.wait()
        return Exit(code if code >= 0 else _SIGNALLED - code)


@asynccontextmanager
async def spawned(
    line: Sequence[str],
    size: TerminalSize | None,
    part: Part,
    *,
    fds: tuple[int, ...],
    env: Mapping[str, str],
    raw: bool = False,
) -> AsyncIterator[Spawned]:
    """Start a process that stands for a command in a sandbox; leaving the context ends it.

    A `raw` terminal hands on every byte as it is: for who brings the command another one, which does the rest.

    Raises:
        Unavailable: it does not start.
    """
    try:
        process, ends = await (_piped(line, fds, env) if size is None else _on_terminal(line, fds, env, size, raw=raw))
    except OSError as error:
        raise Unavailable("exec.start", "The machine can start no command now.", "Try again.") from error
    try:
        yield Spawned(process, ends, part)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await asyncio.shield(asyncio.to_thread(part.kill))
        await asyncio.shield(process.wait())
        ends.close()


async def _piped(
    line: Sequence[str], fds: tuple[int, ...], env: Mapping[str, str]
) -> tuple[asyncio.subprocess.Process, Ends]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *line, stdin=pipe, stdout=pipe, stderr=pipe, pass_fds=fds, env=env, cwd="/", limit=CHUNK_BYTES
    )
    if process.stdin is None or process.stdout is None:
        raise AssertionError("pipes were asked for")
    return process, Ends(process.stdin, process.stdout, process.stderr)


async def _on_terminal(
    line: Sequence[str], fds: tuple[int, ...], env: Mapping[str, str], size: TerminalSize, *, raw: bool
) -> tuple[asyncio.subprocess.Process, Ends]:
    master, slave = os.openpty()
    try:
        _set_size(master, size)
        if raw:
            tty.setraw(slave)
        process = await asyncio.create_subprocess_exec(
            *line, stdin=slave, stdout=slave, stderr=slave, pass_fds=fds, env=env, cwd="/"
        )
    except BaseException:
        os.close(master)
        raise
    finally:
        os.close(slave)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(CHUNK_BYTES)
    reading, _ = await loop.connect_read_pipe(lambda: _Terminal(reader), os.fdopen(os.dup(master), "rb", 0))
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), os.fdopen(os.dup(master), "wb", 0)
    )
    return process, Ends(asyncio.StreamWriter(transport, protocol, None, loop), reader, None, master, reading)


class _Terminal(asyncio.StreamReaderProtocol):
    """A terminal without anybody on it fails to be read (EIO). That is its end; what was read before is kept."""

    def connection_lost(self, _: Exception | None) -> None:
        """See asyncio."""
        super().connection_lost(None)


async def has_ended(pid: int) -> None:
    """Return when a process of this machine has."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(fd, over.set)
    try:
        await over.wait()
    finally:
        loop.remove_reader(fd)
        os.close(fd)


def _set_size(terminal: int, size: TerminalSize) -> None:
    """Tell the kernel, which tells the programs in front by SIGWINCH."""
    with contextlib.suppress(OSError):
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", size.rows, size.columns, 0, 0))
