"""A body of unknown length, cut into segments."""

from __future__ import annotations

from fallow.verticals.storage.client.store import Body
from fallow.verticals.storage.core.layout import SEGMENT_BYTES


class Cutter:
    """Holds one segment at a time, in `held`; `over` once that is the last one."""

    def __init__(self, body: Body) -> None:
        self.held = bytearray()
        self.over = False
        self._body = body
        self._rest = memoryview(b"")

    async def fill(self) -> None:
        """Take in the next segment."""
        self.held += self._rest[:SEGMENT_BYTES]
        self._rest = self._rest[SEGMENT_BYTES:]
        while not self._rest and not self.over:
            chunk = await anext(self._body, None)
            if chunk is None:
                self.over = True
            else:
                room = SEGMENT_BYTES - len(self.held)
                self.held += memoryview(chunk)[:room]
                self._rest = memoryview(chunk)[room:]

    def take(self) -> memoryview:
        """Hand out what is held."""
        taken, self.held = memoryview(self.held), bytearray()
        return taken
