"""Pieces that nodes showed that they do not have: their segments count on them no more."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from fallow.ports.database import Transaction
from fallow.verticals.storage.control.segments import piece_bytes

_LOSE: Final = """
UPDATE storage.segment SET nodes = array_replace(nodes, $1::integer, 0) WHERE id = ANY($2::bytea[]) AND $1 = ANY(nodes)
    AND cardinality(array_remove(array_remove(nodes, 0), $1::integer)) >= $3::integer
RETURNING id, bucket, payload, profile
"""
_CHANGE: Final = """
INSERT INTO storage.change (bucket, nodes, bytes, at_ms)
SELECT b, ARRAY[$3::integer], -s, $4 FROM unnest($1::bigint[], $2::bigint[]) AS c (b, s)
"""
_GARBAGE: Final = """
INSERT INTO storage.garbage (alias, segment, purge, due_ms) SELECT $1, s, false, $3 FROM unnest($2::bytea[]) AS s
ON CONFLICT DO NOTHING
"""


async def lose(
    tx: Transaction, alias: int, segments: Collection[bytes], now_ms: int, *, others_min: int = 0
) -> dict[bytes, int]:
    """Have segments count on a node no more, without another; returns the bytes of its pieces, by segment.

    Not those that would count on fewer than `others_min` others: who still finds his piece shall be asked for it.
    """
    rows = await tx.fetch(_LOSE, alias, list(segments), others_min)
    sizes = {row["id"]: piece_bytes(row["payload"], row["profile"]) for row in rows}
    await tx.execute(_CHANGE, [row["bucket"] for row in rows], list(sizes.values()), alias, now_ms)
    await tx.execute(_GARBAGE, alias, list(sizes), now_ms)
    return sizes
