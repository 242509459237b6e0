"""Segments that need repair as rows: moved to other nodes piece by piece."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from fallow.domain.errors import Conflict
from fallow.ports.database import Transaction
from fallow.verticals.storage.control.segments import LATE_MS, piece_bytes
from fallow.verticals.storage.core.layout import Layout
from fallow.verticals.storage.core.profiles import PROFILES, Profile

_INTRODUCE: Final = """
INSERT INTO storage.client (key, repairs) VALUES ($1, true) ON CONFLICT (key) DO UPDATE SET repairs = true
"""
_SEGMENT: Final = """
SELECT s.id, s.bucket, s.payload, s.profile, s.nodes, coalesce(b.countries, '{}') AS countries
FROM storage.segment s LEFT JOIN storage.bucket b ON b.id = s.bucket WHERE s.id = $1
"""
_HOLD: Final = "SELECT 1 FROM storage.segment WHERE id = $1 AND nodes = $2 FOR UPDATE"
_LEFT: Final = """
SELECT alias FROM storage.garbage WHERE segment = $1
UNION ALL SELECT unnest(nodes) FROM storage.dropped WHERE segment = $1
"""
_NAME: Final = """
INSERT INTO storage.garbage (alias, segment, purge, due_ms) SELECT a, $2, false, $3 FROM unnest($1::integer[]) AS a
ON CONFLICT (alias, segment) DO NOTHING
"""
_UNNAME: Final = """
DELETE FROM storage.garbage WHERE segment = $1 AND alias = ANY($2::integer[]) AND due_ms = $3
"""
_MOVE: Final = "UPDATE storage.segment SET nodes = $3 WHERE id = $1 AND nodes = $2"
_CHANGE: Final = "INSERT INTO storage.change (bucket, nodes, bytes, at_ms) VALUES ($1, $2, $3, $4)"


class Damaged(NamedTuple):
    """A segment that may need repair; `nodes` are aliases by the pieces' numbers, 0 where nobody has one."""

    id: bytes
    bucket: int
    payload: int
    profile: str
    nodes: Sequence[int]
    countries: Sequence[str]

    @property
    def code(self) -> Profile:
        """How it is coded."""
        return PROFILES[self.profile]

    @property
    def layout(self) -> Layout:
        """How it lies in its pieces."""
        return Layout(self.payload, self.code.needed)


class Named(NamedTuple):
    """Nodes that are to get pieces; what they have of the segment is garbage at `due_ms`, unless it was moved there."""

    aliases: Sequence[int]
    due_ms: int


async def introduce(tx: Transaction, key: bytes) -> None:
    """Have audits take claims by this key: it brings pieces of any segment."""
    await tx.execute(_INTRODUCE, key)


async def look_up(tx: Transaction, segment: bytes) -> Damaged | None:
    """Look it up as it is now; None: it is gone."""
    rows = await tx.fetch(_SEGMENT, segment)
    return Damaged(**dict(rows[0])) if rows else None


async def left(tx: Transaction, segment: bytes) -> set[int]:
    """The nodes that must get no piece of it: they were named for one, or have one that is to be deleted."""
    return {row["alias"] for row in await tx.fetch(_LEFT, segment)}


async def hold(tx: Transaction, segment: Damaged) -> set[int]:
    """Let nobody else name nodes for a segment, or change it, until the transaction ends; returns as `left`.

    Raises:
        Conflict: `storage.segment_changed`: it is not as it was read.
    """
    if not await tx.fetch(_HOLD, segment.id, list(segment.nodes)):
        raise _changed()
    # A statement of its own: that of a lock sees what was there before it waited.
    return await left(tx, segment.id)


async def name(tx: Transaction, segment: Damaged, aliases: Sequence[int], now_ms: int) -> Named:
    """Write nodes down before pieces are brought to them: whatever happens, these do not stay there for ever.

    In the transaction that holds the segment, and none of those that must get no piece: a node has one of a segment.
    """
    named = Named(aliases, now_ms + LATE_MS)
    await tx.execute(_NAME, list(aliases), segment.id, named.due_ms)
    return named


async def move(tx: Transaction, segment: Damaged, to: Mapping[int, int], named: Sequence[Named], now_ms: int) -> None:
    """Have a segment count on the nodes that pieces were brought to, by number, and no more on those before.

    Their pieces are garbage from now on.

    Raises:
        Conflict: `storage.segment_changed`: it was dropped, or repaired by somebody else; or it took so long that nodes
            may have been asked to delete what came.
    """
    nodes = [to.get(number, alias) for number, alias in enumerate(segment.nodes)]
    before = [alias for number, alias in enumerate(segment.nodes) if alias and number in to]
    size = piece_bytes(segment.payload, segment.profile)
    if await tx.execute(_MOVE, segment.id, list(segment.nodes), nodes) != "UPDATE 1":
        raise _changed()
    kept = 0
    for one in named:
        if now_ms < one.due_ms - LATE_MS // 4:
            here = [alias for alias in one.aliases if alias in nodes]
            kept += int((await tx.execute(_UNNAME, segment.id, here, one.due_ms)).rpartition(" ")[2])
    if kept != len(to):
        raise _changed()
    await tx.execute(_NAME, before, segment.id, now_ms)
    await tx.execute(_CHANGE, segment.bucket, before, -size, now_ms)
    await tx.execute(_CHANGE, segment.bucket, list(to.values()), size, now_ms)


def _changed() -> Conflict:
    return Conflict("storage.segment_changed", "The segment was dropped or changed while it was repaired.")
