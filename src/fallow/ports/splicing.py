"""Joins two streams, so that what comes in on one goes out on the other."""

from __future__ import annotations

import asyncio
from typing import Final

from fallow.domain.errors import FallowError, Unavailable
from fallow.ports.clock import Clock
from fallow.ports.streams import READ_BYTES_MAX, Stream

IDLE_S: Final = 3600.0
"""A spliced stream that nothing moves on for so long is given up."""


async def splice(near: Stream, far: Stream, clock: Clock) -> None:
    """Carry bytes, ends and errors both ways until both directions have ended.

    Holds nothing itself: a slow reader on one side slows the writer on the other. Raises nothing of the streams'.
    """
    moved = [0]
    try:
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(_until_idle(moved, clock))
            both = [group.create_task(_pour(near, far, moved)), group.create_task(_pour(far, near, moved))]
            await asyncio.wait(both)
            watch.cancel()
    except ExceptionGroup as errors:
        error = errors.exceptions[0]
        _reset(near, far, error if isinstance(error, FallowError) else _broken())
        if not isinstance(error, FallowError):
            raise error from None
    except BaseException:
        _reset(near, far, _broken())
        raise


class ConnectionStream:
    """The `Stream` port over a connection of asyncio's; the caller closes the writer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes:
        """See the port."""
        try:
            return await self._reader.read(READ_BYTES_MAX)
        except OSError as error:
            raise _lost(error) from error

    async def write(self, data: bytes | memoryview) -> None:
        """See the port."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as error:
            raise _lost(error) from error

    def end(self) -> None:
        """See the port."""
        if not self._writer.transport.is_closing():
            self._writer.write_eof()

    def reset(self, error: FallowError) -> None:  # noqa: ARG002 - a connection cannot say why
        """See the port."""
        self._writer.transport.abort()


async def _pour(source: Stream, sink: Stream, moved: list[int]) -> None:
    while chunk := await source.read():
        moved[0] += len(chunk)
        await sink.write(chunk)
    sink.end()


async def _until_idle(moved: list[int], clock: Clock) -> None:
    before = -1
    while moved[0] != before:
        before = moved[0]
        await clock.sleep(IDLE_S)
    raise Unavailable("stream.idle", f"Nothing has moved for {IDLE_S:g} s.", "Open it again.")


def _reset(near: Stream, far: Stream, error: FallowError) -> None:
    near.reset(error)
    far.reset(error)


def _broken() -> Unavailable:
    return Unavailable("stream.relay", "What was in between has ended.")


def _lost(error: OSError) -> Unavailable:
    return Unavailable("stream.connection", f"The connection is broken: {error}.")
