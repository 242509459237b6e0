"""Commands of buyers in the sandboxes of their leases: what goes over their streams, and how many there may be."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from fallow.agent.leases import Held
from fallow.domain.commands import PAYLOAD_BYTES_MAX, Kind, Pieces, encode, encode_data
from fallow.domain.errors import NotFound, TooMuch, Unavailable
from fallow.domain.streams import Exec
from fallow.ports.clock import Clock
from fallow.ports.rates import Buckets, Rate, TooSoon
from fallow.ports.streams import Stream
from fallow.ports.tasks import first_error
from fallow.ports.vertical.work import Command, Exit

AT_ONCE_MAX: Final = 8
RATE: Final = Rate(per_s=1.0, burst=20)
"""How often one may begin in a lease: what it takes to begin is not all the lease's own."""

_log = logging.getLogger(__name__)


class Commands:
    """Runs them."""

    def __init__(self, clock: Clock) -> None:
        self._rate = Buckets(RATE, clock)
        self._running: Counter[str] = Counter()

    async def serve(self, stream: Stream, held: Held, want: Exec) -> None:
        """Run a command to its end, or until its stream breaks, which is then given up.

        Raises:
            NotFound: there is nothing to run it in (`stream.no_inside`).
            TooMuch: too many run in this lease, or began.
            FallowError: it could not be run, or the stream broke.
        """
        if held.inside is None:
            raise NotFound(
                "stream.no_inside",
                "No command can be run in it: it has not begun, has just ended, or is a WASM program, which has "
                "neither processes nor a shell.",
            )
        lease = held.proposal.lease
        with self._counted(lease):
            _log.info(
                "lease %s: its buyer runs a command in its sandbox", lease
            )  # what it is, is not the owner's business
            async with held.inside.command(want.command, want.terminal) as command:
                ended = await _carried(stream, command)
        if ended.said:
            await stream.write(encode_data(Kind.ERRORS, ended.said))
        await stream.write(encode(Kind.EXIT, bytes([ended.code])))
        stream.end()

    @contextmanager
    def _counted(self, lease: str) -> Iterator[None]:
        if self._running[lease] >= AT_ONCE_MAX:
            raise TooMuch("rate.commands", f"{AT_ONCE_MAX} commands run in this sandbox.", "End one of them.")
        try:
            self._rate.take(lease)
        except TooSoon as error:
            raise TooMuch("rate.commands", "Too many commands have begun too soon.", error.hint) from error
        self._running[lease] += 1
        try:
            yield
        finally:
            self._running[lease] -= 1
            if not self._running[lease]:
                del self._running[lease]


async def _carried(stream: Stream, command: Command) -> Exit:
    """Carry what goes in and comes out until the command has ended and all of its output is on its way."""
    with first_error():
        async with asyncio.TaskGroup() as group:
            feeding = group.create_task(_feed(stream, command))
            pours = [group.create_task(_pour(command.stdout, Kind.OUTPUT, stream))]
            if command.stderr is not None:
                pours.append(group.create_task(_pour(command.stderr, Kind.ERRORS, stream)))
            ended = await command.wait()
            await asyncio.wait(pours)
            feeding.cancel()
    return ended


async def _feed(stream: Stream, command: Command) -> None:
    """Hand over what comes. Returns never: a stream without anybody at its other end breaks."""
    pieces = Pieces()
    while data := await stream.read():
        for piece in pieces.feed(data):
            if piece.kind is Kind.SIZE:
                command.resize(piece.size)
            elif piece.kind is Kind.INPUT:
                with contextlib.suppress(OSError):  # it does not want to read any more
                    command.stdin.write(piece.payload)
                    await command.stdin.drain()
            elif piece.kind is Kind.INPUT_END:
                with contextlib.suppress(OSError):
                    command.stdin.write_eof()
    raise Unavailable("stream.closed", "Whoever ran the command has gone.")


async def _pour(source: asyncio.StreamReader, kind: Kind, stream: Stream) -> None:
    with contextlib.suppress(OSError):  # so a terminal says that nobody is left on it
        while data := await source.read(PAYLOAD_BYTES_MAX):
            await stream.write(encode(kind, data))
