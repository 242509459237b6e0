"""`fallow job exec`: this process's stdin, stdout and terminal become those of a command in a running sandbox."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import termios
import threading
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Final

from fallow.bootstrap.paths import Paths
from fallow.domain.commands import PAYLOAD_BYTES_MAX, Kind, Pieces, encode, encode_size
from fallow.domain.errors import Conflict, InvalidInput, Unavailable
from fallow.domain.streams import Exec, TerminalSize
from fallow.ports.streams import Stream
from fallow.ports.tasks import background, first_error

_STDIN: Final = 0
_WRITTEN_TO: Final = {Kind.OUTPUT: 1, Kind.ERRORS: 2}


async def execute(ways: Paths, command: Sequence[str], *, interactive: bool, terminal: bool) -> int:
    """Run a command to its end and return its exit code. With `interactive` it reads what this process reads.

    Raises:
        InvalidInput: a terminal is asked for, and this process has none (`exec.terminal`).
        NotFound, Conflict, TooMuch: it cannot be run, or not now.
        Unavailable: it was cut off.
    """
    if terminal and not os.isatty(_STDIN):
        raise InvalidInput("exec.terminal", "There is no terminal here to lend to it.", "Leave out -t.")
    size = _terminal_size() if terminal else None
    stream = (await ways.open(Exec(list(command), size))).stream
    work = [_send_input(stream, interactive=interactive)]
    if terminal:
        work.append(_tell_sizes(stream))
    try:
        with first_error(), _raw() if terminal and interactive else nullcontext():
            async with background(*work):
                return await _carry_output(stream)
    finally:
        stream.reset(Conflict("stream.closed", "Whoever ran the command has gone."))


async def _carry_output(stream: Stream) -> int:
    pieces = Pieces()
    while data := await stream.read():
        for piece in pieces.feed(data):
            if piece.kind is Kind.EXIT:
                return piece.code
            if piece.kind in _WRITTEN_TO:
                await asyncio.to_thread(_write_all, _WRITTEN_TO[piece.kind], piece.payload)
    raise Unavailable("exec.cut_off", "The command was cut off: its job may have ended.")


async def _send_input(stream: Stream, *, interactive: bool) -> None:
    if interactive:
        typed: asyncio.Queue[bytes] = asyncio.Queue(1)
        # It cannot be waited for: nobody may ever type anything.
        threading.Thread(target=_read_input, args=(asyncio.get_running_loop(), typed), daemon=True).start()
        while data := await typed.get():
            await stream.write(encode(Kind.INPUT, data))
    await stream.write(encode(Kind.INPUT_END))


def _read_input(loop: asyncio.AbstractEventLoop, typed: asyncio.Queue[bytes]) -> None:
    data = b"?"
    with contextlib.suppress(OSError, RuntimeError):  # the terminal, or the loop, has gone
        while data:
            data = os.read(_STDIN, PAYLOAD_BYTES_MAX)
            asyncio.run_coroutine_threadsafe(typed.put(data), loop).result()


async def _tell_sizes(stream: Stream) -> None:
    """Tell each new size of the terminal."""
    changed, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGWINCH, changed.set)
    try:
        while True:
            await changed.wait()
            changed.clear()
            await stream.write(encode_size(_terminal_size()))
    finally:
        loop.remove_signal_handler(signal.SIGWINCH)


def _terminal_size() -> TerminalSize:
    columns, rows = os.get_terminal_size(_STDIN)
    return TerminalSize(max(1, rows), max(1, columns))


@contextmanager
def _raw() -> Iterator[None]:
    """Let all keys go to the command, those that would end this process too."""
    before = termios.tcgetattr(_STDIN)
    tty.setraw(_STDIN)
    try:
        yield
    finally:
        termios.tcsetattr(_STDIN, termios.TCSADRAIN, before)


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
