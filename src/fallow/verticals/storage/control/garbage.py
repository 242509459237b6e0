"""Has nodes delete the pieces that nobody wants any more.

What is dropped is a row of `storage.dropped` in the transaction that drops it. From there it goes on in steps, each a
transaction: it becomes a row for each of its nodes, a node is asked, and the row goes once it has answered. A step that
was not committed is done again; nodes do not mind being asked twice. Rows of nodes that are gone for good go with them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec

from fallow.domain.errors import FallowError
from fallow.ports.clock import Clock
from fallow.ports.database import Database, Row, Transaction
from fallow.ports.vertical.control import Ask
from fallow.verticals.storage.control.limits import Secrets
from fallow.verticals.storage.control.nodes import Lender, Nodes
from fallow.verticals.storage.control.segments import SegmentRows, piece_bytes
from fallow.verticals.storage.core.calls.objects import Unpurged
from fallow.verticals.storage.core.questions import PIECES_AT_ONCE, Purge, Trash
from fallow.verticals.storage.core.reputation import ONLINE_GRACE_MS

SEGMENTS_AT_ONCE: Final = 200
NODES_AT_ONCE: Final = 8
LOOK_S: Final = 5.0
_UNPURGED: Final = """
SELECT count(*) AS pieces, count(DISTINCT alias) AS nodes, count(*) FILTER (WHERE due_ms > $2) AS later,
    coalesce(max(due_ms) FILTER (WHERE due_ms > $2), 0) AS due_ms
FROM (
    SELECT unnest(nodes) AS alias, due_ms FROM storage.dropped WHERE bucket = $1 AND stored AND purge
    UNION ALL SELECT alias, due_ms FROM storage.garbage WHERE bucket = $1
) AS waiting WHERE alias <> 0
"""
_PURGE: Final = """
UPDATE storage.garbage g SET purge = true, bucket = p.bucket
FROM unnest($1::bytea[], $2::bigint[]) AS p (segment, bucket) WHERE g.segment = p.segment
"""
"""Of a segment that is purged whatever waits, what its nodes before were to put into their trash, too."""
_GONE: Final = """
DELETE FROM storage.garbage g USING (
    SELECT d.alias, d.segment FROM storage.node n CROSS JOIN LATERAL (
        SELECT alias, segment FROM storage.garbage WHERE alias = n.alias AND (n.exit = 'left' OR NOT purge)
        LIMIT $2 FOR UPDATE SKIP LOCKED
    ) d WHERE n.exit = 'left' OR n.standing = 'disqualified' AND n.seen_ms < $1 LIMIT $2
) gone WHERE g.alias = gone.alias AND g.segment = gone.segment
"""
"""Nobody asks a node that has left. Of one that is disqualified and away nothing counts ever again: only what a buyer
was told that it is asked for, however long it is away, waits for it."""


class Garbage:
    """Goes through it for ever: nodes that are not there are asked when they are."""

    def __init__(
        self, *, clock: Clock, database: Database, nodes: Nodes, segments: SegmentRows, secrets: Secrets, ask: Ask
    ) -> None:
        self._clock = clock
        self._database = database
        self._nodes = nodes
        self._segments = segments
        self._secrets = secrets
        self._ask = ask

    async def collect(self) -> None:
        """Do what there is to do, now and then, until cancelled."""
        while True:
            busy = await self.forget()
            busy = await self.spread() or busy
            busy = await self.let_go() or busy
            busy = await self.ask_all() or busy
            if not busy:
                await self._clock.sleep(LOOK_S)

    async def forget(self) -> bool:
        """Drop segments that nobody came back for; whether there may be more."""
        async with self._database.transaction() as tx:
            return bool(await self._segments.forget(tx, SEGMENTS_AT_ONCE))

    async def spread(self) -> bool:
        """Make rows of nodes of what was dropped, and have it cost nothing from its drop on; whether there was any."""
        async with self._database.transaction() as tx:
            rows = await tx.fetch(
                "DELETE FROM storage.dropped WHERE id IN (SELECT id FROM storage.dropped ORDER BY id LIMIT $1"
                " FOR UPDATE SKIP LOCKED) RETURNING *",
                SEGMENTS_AT_ONCE,
            )
            await _to_nodes(tx, rows)
            await tx.copy(
                "storage.change",
                ["bucket", "nodes", "bytes", "payload", "at_ms"],
                [
                    (
                        row["bucket"],
                        _holders(row),
                        -piece_bytes(row["payload"], row["profile"]),
                        -row["payload"],
                        row["at_ms"],
                    )
                    for row in rows
                    if row["stored"]
                ],
            )
        return bool(rows)

    async def let_go(self) -> bool:
        """Forget what nodes that are gone for good were to delete; whether there may be more."""
        async with self._database.transaction() as tx:
            deleted = await tx.execute(_GONE, self._clock.now_ms() - ONLINE_GRACE_MS, PIECES_AT_ONCE)
        return deleted != "DELETE 0"

    async def unpurged(self, tx: Transaction, bucket_id: int) -> Unpurged:
        """What of all that was purged in a bucket waits for its nodes."""
        (row,) = await tx.fetch(_UNPURGED, bucket_id, self._clock.now_ms())
        return Unpurged(**dict(row))

    async def ask_all(self) -> bool:
        """Ask each node that is there and has garbage for one batch; whether any of them answered."""
        there = {one.alias: one for one in self._nodes.online()}
        async with self._database.transaction() as tx:
            rows = await tx.fetch(
                "SELECT alias FROM unnest($1::integer[]) AS a (alias) WHERE EXISTS"
                " (SELECT 1 FROM storage.garbage g WHERE g.alias = a.alias AND g.due_ms <= $2)",
                list(there),
                self._clock.now_ms(),
            )
        gate = asyncio.Semaphore(NODES_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(self._ask_one(there[row["alias"]], gate)) for row in rows]
        return any(task.result() for task in asked)

    async def _ask_one(self, node: Lender, gate: asyncio.Semaphore) -> bool:
        async with gate:
            rows = await self._due(node.alias)
            answered = False
            for purge in (True, False):
                segments = [row["segment"] for row in rows if row["purge"] == purge]
                if segments and await self._gone(node, segments, purge=purge):
                    answered = True
            return answered

    async def _due(self, alias: int) -> Sequence[Row]:
        """What a node shall delete. That its segment does not count on it is looked up once more."""
        async with self._database.transaction() as tx:
            return await tx.fetch(
                "SELECT segment, purge FROM storage.garbage g WHERE alias = $1 AND due_ms <= $2 AND NOT EXISTS"
                " (SELECT 1 FROM storage.segment s WHERE s.id = g.segment AND g.alias = ANY(s.nodes))"
                " ORDER BY due_ms LIMIT $3",
                alias,
                self._clock.now_ms(),
                PIECES_AT_ONCE,
            )

    async def _gone(self, node: Lender, segments: Sequence[bytes], *, purge: bool) -> bool:
        """Have a node delete pieces, and forget them; whether it did."""
        pieces = [self._secrets.piece(segment, node.node) for segment in segments]
        question = Purge(pieces) if purge else Trash(pieces)
        try:
            await self._ask(node.node, msgspec.msgpack.encode(question))
        except FallowError:  # it is asked again
            return False
        async with self._database.transaction() as tx:
            await tx.execute(
                "DELETE FROM storage.garbage WHERE alias = $1 AND segment = ANY($2::bytea[]) AND purge <= $3",
                node.alias,
                list(segments),
                purge,
            )
        return True


async def _to_nodes(tx: Transaction, rows: Sequence[Row]) -> None:
    pieces = [(node, row["segment"], row["purge"], row["due_ms"]) for row in rows for node in _holders(row)]
    await tx.execute(
        "INSERT INTO storage.garbage AS g (alias, segment, purge, due_ms)"
        " SELECT * FROM unnest($1::integer[], $2::bytea[], $3::boolean[], $4::bigint[])"
        " ON CONFLICT (alias, segment) DO UPDATE SET purge = g.purge OR EXCLUDED.purge,"
        "  due_ms = greatest(g.due_ms, EXCLUDED.due_ms)",
        *([piece[column] for piece in pieces] for column in range(4)),
    )
    purged = [row for row in rows if row["stored"] and row["purge"]]
    await tx.execute(_PURGE, [row["segment"] for row in purged], [row["bucket"] for row in purged])


def _holders(row: Row) -> list[int]:
    return [node for node in row["nodes"] if node]
