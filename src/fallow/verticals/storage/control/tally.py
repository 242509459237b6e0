"""What a bucket holds: versions (delete markers are none) and their bytes, kept in the transactions that change it.

Beside them what it keeps in this database for nothing: of each version, delete marker and part of an upload so many
bytes as its row takes beyond those that are paid for, on nodes.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from fallow.ports.database import Transaction

ROW_BYTES: Final = 512
"""What a row takes with its indexes, beside what is as long as its owner likes; see `schema/0001_objects.sql`."""
KEPT: Final = f"""
greatest(0, {ROW_BYTES} + length(r.name) + length(r.head) + length(r.tags) + coalesce(length(r.parts), 0)
    + coalesce(length(r.inline), -r.size)) AS kept_bytes
"""
"""Of a version `r`."""
PART_KEPT: Final = f"greatest(0, {ROW_BYTES} + length(r.head) - r.size) AS kept_bytes"
"""Of a part `r` of an upload."""

# The number of the database's process: who commits at the same time adds to another row.
_ADD: Final = """
INSERT INTO storage.tally AS t (bucket_id, slot, objects, bytes, kept) VALUES ($1, pg_backend_pid() % 32, $2, $3, $4)
ON CONFLICT (bucket_id, slot) DO UPDATE SET objects = t.objects + $2, bytes = t.bytes + $3, kept = t.kept + $4
"""
_OF_PARTS: Final = f"""
SELECT coalesce(sum(kept_bytes), 0)::bigint AS kept FROM (SELECT {PART_KEPT} FROM storage.part r WHERE stream = $1) p
"""  # noqa: S608 - our words


class Totals(NamedTuple):
    """Versions, their bytes, and bytes that are kept for nothing; or by how much they change."""

    objects: int = 0
    bytes: int = 0
    kept: int = 0

    def plus(self, other: Totals) -> Totals:
        """Both together."""
        return Totals(self.objects + other.objects, self.bytes + other.bytes, self.kept + other.kept)


NOTHING: Final = Totals()


async def add(tx: Transaction, bucket_id: int, change: Totals) -> None:
    """Count a change. Last in a transaction: whoever shares the row waits from here on."""
    if change != NOTHING:
        await tx.execute(_ADD, bucket_id, *change)


def of_marker(name: bytes) -> Totals:
    """What a delete marker is more."""
    return Totals(kept=ROW_BYTES + len(name))


async def without_parts(tx: Transaction, upload: bytes) -> Totals:
    """What is less without the parts of an upload, whose lock is held."""
    return Totals(kept=-(await tx.fetch(_OF_PARTS, upload))[0]["kept"])
