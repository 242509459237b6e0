"""Portions of a segment on their way to nodes: made once for all who keep pace, and anew for whoever comes late.

So many are kept at a time, whatever the slowest node does: that is what an upload takes of memory beside its payload.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from blake3 import blake3

from fallow.ports.clock import Clock
from fallow.verticals.storage.client.waiting import Change
from fallow.verticals.storage.coding.portions import Portions

KEPT: Final = 3
PATIENCE_MS: Final = 250
"""How long those who keep pace wait for the others, or as long as a portion takes them."""


class Window:
    """`quorum` of the `senders` (pieces) that began in step are enough to go on; `moved` is told when one moves."""

    def __init__(self, portions: Portions, pieces: int, quorum: int, clock: Clock, moved: Change) -> None:
        self.kept_max = 0
        """Most portions that were kept at a time."""
        self._portions = portions
        self._quorum = quorum
        self._clock = clock
        self._moved = moved
        self._made = Change()
        self._kept: dict[int, list[memoryview]] = {}
        self._next = 0
        self._hashes = [blake3() for _ in range(pieces)]
        self._at = dict.fromkeys(range(pieces), 0)

    async def make(self) -> None:
        """Make all portions."""
        began_ms = self._clock.monotonic_ms()
        for number in range(len(self._portions)):
            await self._room(number, (self._clock.monotonic_ms() - began_ms) // max(1, number))
            self._kept.pop(number - KEPT, None)
            self._kept[number] = await asyncio.to_thread(self._make, number)
            self.kept_max = max(self.kept_max, len(self._kept))
            self._next = number + 1
            self._made.tell()

    async def parts(self, piece: int, *, in_step: bool) -> AsyncIterator[memoryview]:
        """Yield what a piece has of all portions; who is not in step keeps nobody waiting."""
        for number in range(len(self._portions)):
            if in_step:
                self._pass(piece, number)
            while number >= self._next:
                await self._made.wait()
            kept = self._kept.get(number)
            if kept is None:
                yield await asyncio.to_thread(self._portions.one, number, piece)
            else:
                yield kept[piece]
        if in_step:
            self.leave(piece)

    def leave(self, piece: int) -> None:
        """Nobody in step sends this piece any more."""
        self._at.pop(piece, None)
        self._moved.tell()

    def hash_of(self, piece: int) -> bytes:
        """BLAKE3 of a piece; right once its last part was had."""
        return self._hashes[piece].digest()

    def _pass(self, piece: int, number: int) -> None:
        if piece in self._at:
            self._at[piece] = number
            self._moved.tell()

    async def _room(self, number: int, usual_ms: int) -> None:
        """Wait until those in step need the portion no more that goes; late ones are in step no longer."""
        goes, since_ms = number - KEPT, self._clock.monotonic_ms()
        while behind := [piece for piece, at in self._at.items() if at <= goes]:
            waited_ms = self._clock.monotonic_ms() - since_ms
            if len(self._hashes) - len(behind) >= self._quorum and waited_ms >= max(PATIENCE_MS, usual_ms):
                for piece in behind:
                    del self._at[piece]
                return
            await self._moved.wait()

    def _make(self, number: int) -> list[memoryview]:
        parts = self._portions.make(number)
        for hashed, part in zip(self._hashes, parts, strict=True):
            hashed.update(part)
        return parts
