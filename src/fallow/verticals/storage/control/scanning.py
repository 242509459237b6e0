"""Looks through all segments for those that need repair, again and again, and at once when a node was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from fallow.ports.clock import Clock
from fallow.ports.database import Database, Row, Transaction
from fallow.verticals.storage.control.health import Whereabouts
from fallow.verticals.storage.control.nodes import Nodes
from fallow.verticals.storage.core.endangered import days_to_loss
from fallow.verticals.storage.core.profiles import PROFILES

EVERY_MS: Final = 2 * 3_600_000
"""From the end of one pass to the begin of the next, where no node is lost."""
REST_TIMES: Final = 4
"""A pass that begins since a node was lost waits so many times as long as the last one took: churn alone must not have
a large network read its table without pause."""
BLOCKS_AT_ONCE: Final = 64
"""Of 8 KiB, with 15 to 25 segments in each: 10 to 20 ms for one processor."""
LOOK_S: Final = 15.0
RENEW_MS: Final = 10_000
"""How long what is known of nodes is used for segments."""

_LOOK: Final = "SELECT * FROM storage.scan FOR UPDATE"
_BLOCKS: Final = "SELECT pg_relation_size('storage.segment') / current_setting('block_size')::integer AS blocks"
_PAGE: Final = """
SELECT id, bucket, profile, nodes FROM storage.segment
WHERE ctid >= format('(%s,0)', $1::bigint)::tid AND ctid < format('(%s,0)', $2::bigint)::tid
"""
_COUNTRIES: Final = """
SELECT id, countries FROM storage.bucket WHERE id = ANY($1::bigint[]) AND cardinality(countries) > 0
"""
_QUEUE: Final = """
INSERT INTO storage.repair AS r (segment, healthy, days, found_ms, due_ms)
SELECT s.segment, s.healthy, s.days, $4, $4
FROM unnest($1::bytea[], $2::smallint[], $3::double precision[]) AS s (segment, healthy, days)
ON CONFLICT (segment) DO UPDATE SET healthy = EXCLUDED.healthy, days = EXCLUDED.days
"""


class Found(NamedTuple):
    """A segment that needs repair: how many of its pieces count, and the days that it has, on average."""

    segment: bytes
    healthy: int
    days: float


class Scan:
    """Goes through the table in the order in which it lies on the disk, a few blocks a transaction.

    Several processes share one pass, and one that is killed leaves it where it was. A segment whose row is written
    meanwhile may be missed: it is seen by the next pass.
    """

    def __init__(self, clock: Clock, database: Database, nodes: Nodes) -> None:
        self._clock = clock
        self._database = database
        self._nodes = nodes
        self._known = Whereabouts(())
        self._known_ms = -RENEW_MS

    async def scan(self) -> None:
        """Look for ever."""
        while True:
            if not await self.page():
                await self._clock.sleep(LOOK_S)

    async def page(self) -> bool:
        """Look at the next segments if a pass is under way, or due; whether there are more."""
        async with self._database.transaction() as tx:
            (state,) = await tx.fetch(_LOOK)
            block = state["block"]
            if block is None:
                if not self._is_due(state):
                    return False
                block = await self._begin(tx)
            rows = await tx.fetch(_PAGE, block, block + BLOCKS_AT_ONCE)
            countries = await _countries(tx, rows)
            found = await asyncio.to_thread(endangered, rows, self._whereabouts(), countries)
            now = self._clock.now_ms()
            if found:
                await tx.execute(_QUEUE, *(list(column) for column in zip(*found, strict=True)), now)
            (size,) = await tx.fetch(_BLOCKS)
            if block + BLOCKS_AT_ONCE < size["blocks"]:
                await tx.execute("UPDATE storage.scan SET block = $1", block + BLOCKS_AT_ONCE)
                return True
            await tx.execute("UPDATE storage.scan SET block = NULL, ended_ms = $1", now)
            return False

    async def _begin(self, tx: Transaction) -> int:
        self._known_ms = -RENEW_MS
        await tx.execute(
            "UPDATE storage.scan SET block = 0, began_ms = $1, lost = $2", self._clock.now_ms(), self._nodes.lost()
        )
        return 0

    def _is_due(self, state: Row) -> bool:
        rested = self._clock.now_ms() - state["ended_ms"]
        if rested >= EVERY_MS or rested < 0:  # the clock was put back: it would be that long without a pass
            return True
        took = state["ended_ms"] - state["began_ms"]
        return rested >= REST_TIMES * took and not set(self._nodes.lost()) <= set(state["lost"])

    def _whereabouts(self) -> Whereabouts:
        now = self._clock.monotonic_ms()
        if now - self._known_ms >= RENEW_MS:
            self._known, self._known_ms = Whereabouts(self._nodes.there()), now
        return self._known


def endangered(rows: Sequence[Row], known: Whereabouts, countries: Mapping[int, Collection[str]]) -> list[Found]:
    """Which segments need repair: too few pieces count, or one has left the countries of its bucket, if that has any.

    `countries` are those of buckets that have any.
    """
    found, repair = [], {name: profile.repair for name, profile in PROFILES.items()}
    for row in rows:
        where = countries.get(row["bucket"], ())
        if not where and known.at_least(row["nodes"]) > repair[row["profile"]]:
            continue
        healthy = known.healthy(row["nodes"], where)
        if healthy <= repair[row["profile"]] or known.is_abroad(row["nodes"], where):
            days = days_to_loss(PROFILES[row["profile"]], healthy, len(known))
            found.append(Found(row["id"], healthy, days))
    return found


async def _countries(tx: Transaction, rows: Sequence[Row]) -> dict[int, frozenset[str]]:
    found = await tx.fetch(_COUNTRIES, list({row["bucket"] for row in rows}))
    return {row["id"]: frozenset(row["countries"]) for row in found}
