"""Which pieces the network knows: of segments that are stored, being stored, or on their way out."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

from fallow.ports.database import Database, Row
from fallow.verticals.storage.control.limits import Secrets

SEGMENTS_AT_ONCE: Final = 1000
_STORED: Final = "SELECT id AS at, id, nodes FROM storage.segment WHERE id > $2 ORDER BY id LIMIT $1"
_BEGUN: Final = "SELECT id AS at, id, nodes FROM storage.begun WHERE id > $2 ORDER BY id LIMIT $1"
_DROPPED: Final = """
SELECT d.id AS at, d.segment AS id, d.nodes FROM storage.dropped d WHERE d.id > $2 ORDER BY d.id LIMIT $1
"""
_GARBAGE: Final = """
SELECT segment AS at, segment AS id, ARRAY[alias] AS nodes FROM storage.garbage
WHERE alias = $3 AND segment > $2 ORDER BY segment LIMIT $1
"""

Pieces = Mapping[int, set[bytes]]
"""Ids of pieces by the alias of a node."""


class KnownPieces:
    """Takes what is known out of sets of pieces that nodes have.

    A segment goes from begun to stored to dropped to garbage, and never back, and its id never comes again. So what
    was on a node before the first step, and is in none of these when they are looked through in that order, is nothing
    that anybody counts on, or ever will.
    """

    def __init__(self, database: Database, secrets: Secrets) -> None:
        self._database = database
        self._secrets = secrets

    def stored(self) -> AsyncIterator[Sequence[Row]]:
        """Pages of all segments that are stored."""
        return self._pages(_STORED, b"")

    async def take_out(self, pieces: Pieces, nodes: Mapping[int, bytes]) -> AsyncIterator[int]:
        """Leave only those that no segment names on these nodes; yields how many segments each step looked at."""
        steps = [self._pages(_BEGUN, b""), self.stored(), self._pages(_DROPPED, 0)]
        for pages in (*steps, *(self._pages(_GARBAGE, b"", alias) for alias in nodes)):
            async for rows in pages:
                await asyncio.to_thread(self._drop, pieces, nodes, rows)
                yield len(rows)

    async def take_out_spare(self, pieces: Pieces, nodes: Mapping[int, bytes]) -> AsyncIterator[int]:
        """Leave only those that are of no stored segment at all, whichever nodes it names."""
        async for rows in self.stored():
            await asyncio.to_thread(self._drop_any, pieces, nodes, rows)
            yield len(rows)

    async def _pages(self, query: str, after: bytes | int, *args: int) -> AsyncIterator[Sequence[Row]]:
        while True:
            async with self._database.transaction() as tx:
                rows = await tx.fetch(query, SEGMENTS_AT_ONCE, after, *args)
            yield rows
            if len(rows) < SEGMENTS_AT_ONCE:
                return
            after = rows[-1]["at"]

    def _drop(self, pieces: Pieces, nodes: Mapping[int, bytes], rows: Sequence[Row]) -> None:
        for row in rows:
            for alias in row["nodes"]:
                if alias in nodes:
                    pieces[alias].discard(self._secrets.piece(row["id"], nodes[alias]))

    def _drop_any(self, pieces: Pieces, nodes: Mapping[int, bytes], rows: Sequence[Row]) -> None:
        for alias, left in pieces.items():
            if left:
                left.difference_update(self._secrets.piece(row["id"], nodes[alias]) for row in rows)


def aliases_of(rows: Sequence[Row]) -> dict[int, list[bytes]]:
    """Segments by the nodes that they name."""
    found: defaultdict[int, list[bytes]] = defaultdict(list)
    for row in rows:
        for alias in row["nodes"]:
            if alias:
                found[alias].append(row["id"])
    return found
