"""Links in memory: what is sent on one end is received on the other, until somebody cuts them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from fallow.domain.errors import Unavailable

WAITING_MAX = 2
"""Messages on their way in one direction; a sender waits when there are more, as it does on a socket."""


class _Pipe:
    def __init__(self) -> None:
        self._items: deque[bytes] = deque()
        self._closed = False
        self._changed = asyncio.Event()

    async def put(self, item: bytes) -> None:
        await self._until(lambda: not self._closed and len(self._items) < WAITING_MAX)
        self._items.append(item)
        self._changed.set()

    async def get(self) -> bytes:
        await self._until(lambda: bool(self._items))
        item = self._items.popleft()
        self._changed.set()
        return item

    def close(self) -> None:
        self._closed = True
        self._changed.set()

    def cut(self) -> None:
        self._items.clear()
        self.close()

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            if self._closed:
                raise Unavailable("stream.link", "The link is broken.")
            self._changed.clear()
            await self._changed.wait()


class MemoryLink:
    """One end: the `Link` port."""

    def __init__(self, outward: _Pipe, inward: _Pipe) -> None:
        self._outward = outward
        self._inward = inward

    async def send(self, data: bytes) -> None:
        """See the port."""
        await self._outward.put(data)

    async def receive(self) -> bytes:
        """See the port."""
        return await self._inward.get()

    def close(self) -> None:
        """Close it for both ends; what was sent still arrives."""
        self._outward.close()
        self._inward.close()

    def cut(self) -> None:
        """Break it for both ends; what was on its way is lost."""
        self._outward.cut()
        self._inward.cut()


def link_pair() -> tuple[MemoryLink, MemoryLink]:
    """Make the two ends of a link."""
    one, other = _Pipe(), _Pipe()
    return MemoryLink(one, other), MemoryLink(other, one)
