"""Background work that nobody can lose."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

from fallow.domain.errors import Unavailable
from fallow.ports.clock import Clock

T = TypeVar("T")


@asynccontextmanager
async def background(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run coroutines while the context is open; leaving it cancels them.

    One that fails cancels the context's body and raises from it: a service whose heart has stopped must not go on
    answering.
    """
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(coroutine) for coroutine in work]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


@contextmanager
def first_error() -> Iterator[None]:
    """Let the first error of a task group out as itself."""
    try:
        yield
    except ExceptionGroup as errors:
        error: Exception = errors
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        raise error from None


async def within(clock: Clock, seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns, or cancel it when so long has passed.

    Raises:
        Unavailable: it took longer (`timeout`). What `work` raises comes out as it is.
    """
    with first_error():
        async with asyncio.TaskGroup() as group:
            working, waiting = group.create_task(work), group.create_task(clock.sleep(seconds))
            await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
            working.cancel()
            waiting.cancel()
    if working.cancelled():
        raise Unavailable("timeout", f"It took longer than {seconds:g} s.")
    return working.result()
