"""How often a bucket was asked for something, by day: counted in memory, and written every few seconds.

A process that is killed takes what it has not written with it: a few seconds of requests are not billed then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from fallow.domain.errors import Unavailable
from fallow.ports.clock import Clock
from fallow.ports.database import Database
from fallow.ports.tasks import background
from fallow.verticals.storage.control.ground import Kind
from fallow.verticals.storage.core.tariff import DAY_MS

FLUSH_S: Final = 5.0
_ADD: Final = """
INSERT INTO storage.operation AS o (account, day, bucket_id, kind, count)
SELECT * FROM unnest($1::bytea[], $2::integer[], $3::bigint[], $4::text[], $5::bigint[])
ON CONFLICT (account, day, bucket_id, kind) DO UPDATE SET count = o.count + EXCLUDED.count
"""

_Key = tuple[bytes, int, int, Kind]


class Operations:
    """Counts requests."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._counts: Counter[_Key] = Counter()

    def count(self, account: bytes, bucket_id: int, kind: Kind) -> None:
        """Count one request to a bucket of an account."""
        self._counts[account, self._clock.now_ms() // DAY_MS, bucket_id, kind] += 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write them while the context is open, and at its end."""
        async with background(self._flush_on()):
            yield
        await self.flush()

    async def flush(self) -> None:
        """Write what was counted. Raises Unavailable, and keeps it then."""
        # In one order, so that processes that write at the same time do not wait for each other in a circle.
        counts, self._counts = dict(sorted(self._counts.items())), Counter()
        if not counts:
            return
        try:
            async with self._database.transaction() as tx:
                keys = [*zip(*counts, strict=True)]
                await tx.execute(_ADD, *map(list, keys), [*counts.values()])
        except Unavailable:
            self._counts.update(counts)
            raise

    async def _flush_on(self) -> None:
        while True:
            await self._clock.sleep(FLUSH_S)
            try:
                await self.flush()
            except Unavailable:
                continue  # they are still counted; the next time writes them
