"""An event loop for code without asyncio."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

from fallow.ports.tasks import first_error

T = TypeVar("T")


class Loop:
    """An event loop in a thread, so that it also works where the caller's thread runs one (a notebook)."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fallow-client", daemon=True)
        self._thread.start()
        self._over = asyncio.Event()
        self._held: Future[None] | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` and wait; an interrupt of the waiting thread cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def hold(self, context: AbstractAsyncContextManager[T]) -> T:
        """Enter a context, once, and return what it gives; it stays open until `stop`.

        One task of the loop holds it from its beginning to its end, as task groups demand.
        """
        opened: Future[T] = Future()
        self._held = asyncio.run_coroutine_threadsafe(_hold(context, opened, self._over), self._loop)
        try:
            return opened.result()
        except BaseException:
            self._held.cancel()
            self._held = None
            raise

    def each(self, source: AsyncIterator[T]) -> Iterator[T]:
        """Iterate over `source`, and close it when the caller stops early."""
        # An interrupted step takes a moment to unwind; closing waits for it.
        turn = asyncio.Lock()

        async def step() -> T:
            async with turn:
                return await anext(source)

        async def close() -> None:
            async with turn:
                if isinstance(source, AsyncGenerator):
                    await source.aclose()

        try:
            while True:
                try:
                    value = self.run(step())
                except StopAsyncIteration:
                    return
                yield value
        finally:
            self._end(close)

    def _end(self, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Close what was iterated over. Who keeps an iterator may drop it late, and in whichever thread collects it."""
        if self._loop.is_closed():
            return  # `stop` has closed it
        if threading.current_thread() is self._thread:
            asyncio.run_coroutine_threadsafe(close(), self._loop)  # to wait for itself would be for ever
        else:
            self.run(close())

    def stop(self, last: Coroutine[Any, Any, None]) -> None:
        """Close what is held and iterated over still, run one last thing; whatever that raises, the thread ends."""
        if self._loop.is_closed():
            last.close()
            return
        try:
            if self._held is not None:
                self._loop.call_soon_threadsafe(self._over.set)
                self._held.result()
        finally:
            self.run(self._loop.shutdown_asyncgens())
            self.run(last)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


async def _hold(context: AbstractAsyncContextManager[T], opened: Future[T], over: asyncio.Event) -> None:
    try:
        with first_error():
            async with context as given:
                opened.set_result(given)
                await over.wait()
    except Exception as error:
        if opened.done():
            raise
        opened.set_exception(error)


async def nothing() -> None:
    """Do nothing: for who stops a loop and has no last thing to do."""
