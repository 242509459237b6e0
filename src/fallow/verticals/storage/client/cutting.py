"""A body of unknown length, cut: no more than one segment of it is held at a time."""

from __future__ import annotations

from fallow.verticals.storage.client.store import Body


class Cutter:
    """`over` once the last byte was taken."""

    def __init__(self, body: Body) -> None:
        self.over = False
        self._body = body
        self._rest = memoryview(b"")

    async def take(self, size: int) -> memoryview:
        """Return the next `size` bytes; fewer at the end alone, and then it is over."""
        taken = bytearray(self._rest[:size])
        self._rest = self._rest[size:]
        while not self._rest and not self.over:
            chunk = await anext(self._body, None)
            if chunk is None:
                self.over = True
            else:
                room = size - len(taken)
                taken += memoryview(chunk)[:room]
                self._rest = memoryview(chunk)[room:]
        return memoryview(taken)
