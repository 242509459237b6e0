"""Joins two streams, so that what comes in on one goes out on the other."""

from __future__ import annotations

import asyncio
from typing import Final

from fallow.domain.errors import FallowError, Unavailable
from fallow.ports.clock import Clock
from fallow.ports.streams import Stream

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
    except* FallowError as errors:
        _reset(near, far, _first(errors))
    except* BaseException:
        _reset(near, far, Unavailable("stream.relay", "What was in between has ended."))
        raise


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


def _first(errors: BaseExceptionGroup[FallowError]) -> FallowError:
    found = errors.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found
