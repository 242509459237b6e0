"""What a bucket holds: versions (delete markers are none) and their bytes, kept in the transactions that change it."""

from __future__ import annotations

from typing import Final, NamedTuple

from fallow.ports.database import Transaction

# The number of the database's process: who commits at the same time adds to another row.
_ADD: Final = """
INSERT INTO storage.tally AS t (bucket_id, slot, objects, bytes) VALUES ($1, pg_backend_pid() % 32, $2, $3)
ON CONFLICT (bucket_id, slot) DO UPDATE SET objects = t.objects + $2, bytes = t.bytes + $3
"""


class Totals(NamedTuple):
    """Versions and their bytes; or by how much they change."""

    objects: int = 0
    bytes: int = 0

    def plus(self, other: Totals) -> Totals:
        """Both together."""
        return Totals(self.objects + other.objects, self.bytes + other.bytes)


async def add(tx: Transaction, bucket_id: int, change: Totals) -> None:
    """Count a change. Last in a transaction: whoever shares the row waits from here on."""
    if change != Totals():
        await tx.execute(_ADD, bucket_id, *change)
