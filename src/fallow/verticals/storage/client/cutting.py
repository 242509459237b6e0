"""A body of unknown length, cut into segments."""

from __future__ import annotations

from fallow.verticals.storage.client.store import Body
from fallow.verticals.storage.core.layout import SEGMENT_BYTES


class Cutter:
    """Holds one segment at a time, in `held`; `over` once nothing comes behind it."""

    def __init__(self, body: Body) -> None:
        self.held = bytearray()
        self.over = False
        self._body = body
        self._rest = memoryview(b"")

    async def fill(self, size: int = SEGMENT_BYTES) -> None:
        """Take in what comes next, until `size` bytes are held and it is known whether they are the last."""
        room = size - len(self.held)
        self.held += self._rest[:room]
        self._rest = self._rest[room:]
        while not self._rest and not self.over:
            chunk = await anext(self._body, None)
            if chunk is None:
                self.over = True
            else:
                room = size - len(self.held)
                self.held += memoryview(chunk)[:room]
                self._rest = memoryview(chunk)[room:]

    def take(self) -> memoryview:
        """Hand out what is held."""
        taken, self.held = memoryview(self.held), bytearray()
        return taken
