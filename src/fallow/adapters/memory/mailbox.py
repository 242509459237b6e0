"""A bounded queue that drops instead of waiting, and the loop that answers what comes in."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from fallow.ports.mishaps import MISHAPS

T = TypeVar("T")


class Mailbox(Generic[T]):
    """What waits for one reader: at most `pending_max` items; the newest is dropped when it is full.

    An asynchronous iterator that ends when the mailbox is closed.
    """

    def __init__(self, pending_max: int) -> None:
        if pending_max < 1:
            raise ValueError("a mailbox needs room for at least one message")
        self.dropped = 0
        self._pending_max = pending_max
        self._items: deque[T] = deque()
        self._changed = asyncio.Event()
        self._closed = False

    def put(self, item: T) -> bool:
        """Add an item; False if it was dropped, because the mailbox is full or closed."""
        if self._closed or len(self._items) >= self._pending_max:
            self.dropped += 1
            return False
        self._items.append(item)
        self._changed.set()
        return True

    def close(self) -> None:
        """End the iteration. What still waits is thrown away: nobody has begun to work on it."""
        self._closed = True
        self._items.clear()
        self._changed.set()

    def __aiter__(self) -> Mailbox[T]:
        return self

    async def __anext__(self) -> T:
        while not self._items:
            if self._closed:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return self._items.popleft()


@asynccontextmanager
async def answering(
    place: str, inbox: Mailbox[T], answer: Callable[[T], Awaitable[None]], *, concurrency: int
) -> AsyncIterator[None]:
    """Run `answer` for each item, at most `concurrency` at a time, until the inbox is closed.

    The caller closes the inbox before the context ends; leaving waits for the answers under way. An exception
    of `answer` is noted as a mishap at `place`.
    """
    slots = asyncio.Semaphore(concurrency)

    async def work(item: T) -> None:
        try:
            await answer(item)
        except Exception as error:  # noqa: BLE001 - one item that hits a bug must not end the service
            MISHAPS.note(place, error)
        finally:
            slots.release()

    async def pump(group: asyncio.TaskGroup) -> None:
        while True:
            # First a slot and then the item: what nobody works on yet stays in the mailbox and counts there.
            await slots.acquire()
            try:
                item = await anext(inbox)
            except StopAsyncIteration:
                return
            group.create_task(work(item))

    async with asyncio.TaskGroup() as group:
        group.create_task(pump(group))
        yield
