"""Holds objects against segments, both ways: rows against rows, a page at a time, and nothing is changed.

What changes a version changes its segments in the same transaction. So each statement, which sees one moment, sees both
as they belong together, whatever goes on beside it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final

import msgspec

from fallow.ports.database import Database, Row
from fallow.verticals.storage.core.upkeep import SHOWN_MAX, InspectedObjects, OtherBytes

ROWS_AT_ONCE: Final = 1000
_VERSIONS: Final = """
SELECT v.stream AS at, b.name AS bucket, v.version, v.stream, v.size, v.inline, (
    SELECT coalesce(sum(payload), 0)::bigint FROM (
        SELECT payload, number, row_number() OVER (PARTITION BY part ORDER BY number) AS n FROM storage.segment
        WHERE bucket = v.bucket_id AND stream = v.stream AND kept
    ) AS laid WHERE number = n - 1
) AS stored FROM (
    SELECT bucket_id, version, stream, size, inline IS NOT NULL AS inline FROM storage.{}
    WHERE stream > $2 ORDER BY stream LIMIT $1
) AS v LEFT JOIN storage.bucket b ON b.id = v.bucket_id ORDER BY v.stream
"""
_SEGMENTS: Final = """
SELECT s.id AS at, s.kept AND NOT EXISTS (
    SELECT FROM storage.object o WHERE o.stream = s.stream AND o.bucket_id = s.bucket
    UNION ALL SELECT FROM storage.version v WHERE v.stream = s.stream AND v.bucket_id = s.bucket
    UNION ALL SELECT FROM storage.upload u WHERE u.stream = s.stream AND u.bucket_id = s.bucket
) AS forgotten FROM (
    SELECT id, bucket, stream, kept FROM storage.segment WHERE id > $2 ORDER BY id LIMIT $1
) AS s ORDER BY s.id
"""
"""What is not kept yet goes by itself in a day; of an upload that is given up, all segments go."""


class ObjectBytes:
    """Looks through both; `found` is what came of it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.found = InspectedObjects()

    async def look(self) -> AsyncIterator[None]:
        """Go through all versions, then through all segments; yields behind each page."""
        for table in ("object", "version"):
            async for rows in self._pages(_VERSIONS.format(table)):
                self._hold(rows)
                yield
        async for rows in self._pages(_SEGMENTS):
            forgotten = [row["at"] for row in rows if row["forgotten"]]
            self._note(
                forgotten=self.found.forgotten + len(forgotten),
                segments=(self.found.segments + forgotten)[:SHOWN_MAX],
            )
            yield

    def _hold(self, rows: Sequence[Row]) -> None:
        on_nodes = [row for row in rows if not row["inline"]]
        other = [
            OtherBytes(
                bucket=row["bucket"] or "",
                version=row["version"],
                stream=row["stream"],
                size=row["size"],
                stored=row["stored"],
            )
            for row in on_nodes
            if row["stored"] != row["size"]
        ]
        self._note(
            on_nodes=self.found.on_nodes + len(on_nodes),
            other=self.found.other + len(other),
            versions=(self.found.versions + other)[:SHOWN_MAX],
        )

    def _note(self, **changes: object) -> None:
        self.found = msgspec.structs.replace(self.found, **changes)

    async def _pages(self, query: str) -> AsyncIterator[Sequence[Row]]:
        after = b""
        while True:
            async with self._database.transaction() as tx:
                rows = await tx.fetch(query, ROWS_AT_ONCE, after)
            yield rows
            if len(rows) < ROWS_AT_ONCE:
                return
            after = rows[-1]["at"]
