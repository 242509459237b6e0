"""Which piece of a node is audited next: drawn by bytes, without a list of each node's pieces.

Segments' ids are random, so their order is a random order: what was read of a pass through all of them is a fair sample
of the whole at any time, and at its end each segment was met once, those of the rarest nodes too. A page is read every
few seconds, from a start that is drawn for each pass: 39 million segments take a day, a small network's a moment. Of
what is met on the way each node keeps a few pieces, by keys that favour large ones (Efraimidis and Spirakis, 2006): the
one with the highest key is a draw by bytes. Nodes learn neither ids nor order.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from fallow.ports.clock import Clock
from fallow.ports.database import Database, Row
from fallow.verticals.storage.control.choosing import Uniform
from fallow.verticals.storage.control.segments import piece_bytes

SEGMENTS_A_PAGE: Final = 2000
SLOTS: Final = 8
"""Some 50 MB with 20,000 nodes."""
PASS_MIN_MS: Final = 600_000
_DRAWN_BITS: Final = 32
_PAGE: Final = (
    "SELECT id, payload, profile, nodes FROM storage.segment"
    " WHERE id > $1 AND ($2::bytea IS NULL OR id <= $2) AND client > 0 ORDER BY id LIMIT $3"
)


_Slot = tuple[float, bytes]
"""A key, and the segment that has it."""


class _Met:
    """What was met of one node: bytes, and the pieces with the highest keys, as a heap."""

    __slots__ = ("size", "slots")

    def __init__(self) -> None:
        self.size = 0
        self.slots: list[_Slot] = []


class Reservoir:
    """A few pieces of each node out of all that were met. Pure, but for the draws.

    A segment has one key for all its nodes: for each of them alone that is as good as one of its own.
    """

    def __init__(self, uniform: Uniform) -> None:
        self._uniform = uniform
        self._met: defaultdict[int, _Met] = defaultdict(_Met)

    def meet(self, segment: bytes, nodes: Iterable[int], size: int) -> None:
        """Take note of a segment with a piece of this size on each of its nodes (0: none)."""
        if not size:
            return
        slot = math.log(1.0 - self._uniform()) / size, segment
        for alias in nodes:
            if alias:
                met = self._met[alias]
                met.size += size
                slots = met.slots
                if len(slots) < SLOTS:
                    heapq.heappush(slots, slot)
                elif slots[0] < slot:
                    heapq.heapreplace(slots, slot)

    def draw(self, alias: int) -> bytes | None:
        """Take out the segment that is next for a node, if there is one."""
        slots = self._met[alias].slots
        if not slots:
            return None
        best = max(slots)
        slots.remove(best)
        heapq.heapify(slots)
        return best[1]

    def held_bytes(self, alias: int) -> int:
        """What was met of a node."""
        return self._met[alias].size


class Sampler:
    """Goes through all segments, again and again."""

    def __init__(self, clock: Clock, uniform: Uniform) -> None:
        self._clock = clock
        self._uniform = uniform
        self._now = self._before = Reservoir(uniform)
        self._start = self._at = b""
        self._wrapped = False
        self._next_ms = 0

    def draw(self, alias: int) -> bytes | None:
        """Take the segment whose piece on a node is audited next; None: none was met yet."""
        return self._before.draw(alias) or self._now.draw(alias)

    def held_bytes(self, alias: int) -> int:
        """What a node holds, by the last whole pass, or as far as was read."""
        return max(self._before.held_bytes(alias), self._now.held_bytes(alias))

    async def read_on(self, database: Database) -> None:
        """Read a page; nothing where the last pass was over soon."""
        if not self._start:
            if self._clock.monotonic_ms() < self._next_ms:
                return
            self._begin()
        async with database.transaction() as tx:
            rows = await tx.fetch(_PAGE, self._at, self._start if self._wrapped else None, SEGMENTS_A_PAGE)
        await asyncio.to_thread(self._meet, rows)
        if len(rows) == SEGMENTS_A_PAGE:
            self._at = rows[-1]["id"]
        elif self._wrapped:
            self._start, self._before = b"", self._now
        else:
            self._at, self._wrapped = b"", True

    def _begin(self) -> None:
        drawn = int(self._uniform() * (1 << _DRAWN_BITS))
        self._start = self._at = drawn.to_bytes(_DRAWN_BITS // 8) + b"\0"
        self._wrapped = False
        self._now = Reservoir(self._uniform)
        self._next_ms = self._clock.monotonic_ms() + PASS_MIN_MS

    def _meet(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._now.meet(row["id"], row["nodes"], piece_bytes(row["payload"], row["profile"]))
