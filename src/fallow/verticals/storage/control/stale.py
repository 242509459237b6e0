"""What waits for somebody: buckets whose gateways have work to do in them, and uploads that nobody goes on with."""

from __future__ import annotations

from typing import Final

from fallow.ports.database import Row, Transaction
from fallow.verticals.storage.control import locks, tally
from fallow.verticals.storage.control.buckets import Buckets
from fallow.verticals.storage.control.ground import Ground
from fallow.verticals.storage.core.calls.buckets import Bucket
from fallow.verticals.storage.core.tariff import DAY_MS
from fallow.verticals.storage.core.upkeep import TakeDue

STALE_MS: Final = 7 * DAY_MS
"""An upload in parts that nobody touched for so long is given up: by the network, whatever its bucket's rules say."""
UPLOADS_AT_ONCE: Final = 100
LOOK_S: Final = 600.0

_TAKE: Final = """
WITH waiting AS (
    SELECT s.bucket_id FROM storage.setting s JOIN storage.bucket b ON b.id = s.bucket_id
    LEFT JOIN storage.due d ON d.bucket_id = s.bucket_id AND d.name = s.name
    WHERE s.name = $1 AND coalesce(d.due_ms, 0) <= $2 ORDER BY coalesce(d.due_ms, 0), s.bucket_id LIMIT $4
    FOR KEY SHARE OF b
), taken AS (
    INSERT INTO storage.due AS d (bucket_id, name, due_ms) SELECT bucket_id, $1, $3 FROM waiting
    ON CONFLICT (bucket_id, name) DO UPDATE SET due_ms = EXCLUDED.due_ms WHERE d.due_ms <= $2 RETURNING bucket_id
)
SELECT b.name FROM taken t JOIN storage.bucket b ON b.id = t.bucket_id ORDER BY b.id
"""
_OLD: Final = """
SELECT u.stream, b.name AS bucket FROM storage.upload u JOIN storage.bucket b ON b.id = u.bucket_id
WHERE u.made_ms < $1 AND NOT EXISTS (SELECT FROM storage.part p WHERE p.stream = u.stream AND p.made_ms >= $1)
ORDER BY u.made_ms LIMIT $2
"""
_IS_OLD: Final = """
SELECT u.bucket_id FROM storage.upload u WHERE u.stream = $1
AND NOT EXISTS (SELECT FROM storage.part p WHERE p.stream = $1 AND p.made_ms >= $2)
"""


class Stale:
    """Hands buckets out, and gives uploads up."""

    def __init__(self, ground: Ground, buckets: Buckets) -> None:
        self._ground = ground
        self._buckets = buckets

    async def take(self, call: TakeDue) -> list[Bucket]:
        """See the call. None of them is dropped before it was read: who takes some would lose the others."""
        now = self._ground.clock.now_ms()
        async with self._ground.database.transaction() as tx:
            rows = await tx.fetch(_TAKE, call.setting, now, now + call.every_ms, call.limit)
            return [await self._buckets.read(tx, "", row["name"]) for row in rows]

    async def give_up(self) -> None:
        """Give uploads up that nobody goes on with, now and then, until cancelled."""
        while True:
            while await self.give_up_some():
                pass
            await self._ground.clock.sleep(LOOK_S)

    async def give_up_some(self) -> int:
        """Give the oldest of them up; returns how many."""
        before = self._ground.clock.now_ms() - STALE_MS
        async with self._ground.database.transaction() as tx:
            old = await tx.fetch(_OLD, before, UPLOADS_AT_ONCE)
        given_up = 0
        for row in old:
            async with self._ground.database.transaction() as tx:
                given_up += await self._give_up(tx, row, before)
        return given_up

    async def _give_up(self, tx: Transaction, row: Row, before: int) -> bool:
        """Whether it was given up: somebody may have gone on with it, or ended it, in the meantime."""
        await locks.write(tx, row["bucket"], stream=row["stream"])
        await tx.fetch("SELECT FROM storage.upload WHERE stream = $1 FOR UPDATE", row["stream"])
        found = await tx.fetch(_IS_OLD, row["stream"], before)
        if not found:
            return False
        freed = await tally.without_parts(tx, row["stream"])
        await tx.execute("DELETE FROM storage.upload WHERE stream = $1", row["stream"])
        await self._ground.segments.drop(tx, found[0]["bucket_id"], [row["stream"]], purge=True)
        await tally.add(tx, found[0]["bucket_id"], freed)
        return True
