"""Segments as rows: those being stored, those that are, and what becomes garbage of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from fallow.domain.errors import Conflict, InvalidInput, NotFound, TooMuch
from fallow.ports.clock import Clock
from fallow.ports.database import Transaction
from fallow.verticals.storage.control import shares
from fallow.verticals.storage.core.layout import SEGMENT_BYTES, Layout
from fallow.verticals.storage.core.orders import LIMIT_MS
from fallow.verticals.storage.core.profiles import PROFILES
from fallow.verticals.storage.core.questions import TRASH_MS
from fallow.verticals.storage.core.tariff import HOUR_MS

FORGOTTEN_MS: Final = 24 * 3_600_000
"""After so long, nobody comes back for a segment that is not whole, or that no version was made of."""
LATE_MS: Final = 2 * LIMIT_MS
"""Until then a piece may still be brought to a node that was named for it."""
BEGUN_BYTES_MAX: Final = 1024 * SEGMENT_BYTES
"""Of one account, with what it has given up until nodes are asked to delete that: nobody pays for it."""
CRUMB_BYTES: Final = 1024
"""A segment's row, with its indexes, takes some 600 bytes where it has 80 pieces; nobody but nodes is paid for it."""
BEGUN_BYTES_MIN: Final = 1 << 20
"""Each counts as that, if it has less: there is a row of it, and of its nodes' room something is set aside."""


class Slot(NamedTuple):
    """Where a segment stands among the bytes of a bucket."""

    bucket: int
    stream: bytes
    part: int
    number: int


class Begun(NamedTuple):
    """A segment that is being stored; `nodes` are the aliases of all that were named for its pieces."""

    id: bytes
    slot: Slot
    account: bytes
    payload: int
    key: bytes
    profile: str
    countries: Sequence[str]
    client: bytes
    nodes: Sequence[int]
    made_ms: int
    grant_id: bytes = b""


class SegmentRow(NamedTuple):
    """A segment that is stored; `nodes` are aliases by the pieces' numbers, 0 where nobody has one."""

    id: bytes
    part: int
    number: int
    payload: int
    key: bytes
    profile: str
    nodes: Sequence[int]


class SegmentRows:
    """Keeps them; see `segments_port.Segments` for what is public. All of it stands or falls with the transaction.

    A piece is garbage only by a row that is written in the very transaction that takes its segment's row away, or that
    closes the segment without its node: what is live cannot be deleted, since ids of segments never come again.

    Nodes' trash is for what a version counted on, which a restore of the database may bring back. That is paid for, for
    as long as the trash keeps things at least; all else is purged, and costs nothing from then on.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def stored_bytes(self, tx: Transaction, bucket_id: int, stream: bytes, part: int | None) -> int:
        """See the port. From then on, if the transaction is committed, they are kept until they are dropped.

        Segments behind a gap of indexes do not count, and are not kept.

        Raises:
            InvalidInput: `storage.crumbs`.
        """
        rows = await tx.fetch(
            "WITH whole AS (SELECT id FROM"
            " (SELECT id, number, row_number() OVER (PARTITION BY part ORDER BY number) AS n FROM storage.segment"
            "  WHERE bucket = $1 AND stream = $2 AND ($3::integer IS NULL OR part = $3)) AS all_ WHERE number = n - 1)"
            " UPDATE storage.segment s SET kept = true FROM whole WHERE s.id = whole.id RETURNING s.payload",
            bucket_id,
            stream,
            part,
        )
        stored = sum(int(row["payload"]) for row in rows)
        if len(rows) > 1 + stored // CRUMB_BYTES:
            raise InvalidInput(
                "storage.crumbs",
                f"{len(rows):,} segments for {stored:,} bytes take more room here than these bring.",
                f"Have each but the last hold {SEGMENT_BYTES >> 20} MiB, or {CRUMB_BYTES} bytes at least.",
            )
        return stored

    async def adopt(self, tx: Transaction, bucket_id: int, stream: bytes, into: bytes, part: int) -> None:
        """See the port. A part of that number before is dropped, unless `stream` has no segments."""
        if not await self.stored_bytes(tx, bucket_id, stream, 0):
            return
        await self._drop(tx, "bucket = $1 AND stream = $2 AND part = $3", bucket_id, into, part)
        await tx.execute(
            "UPDATE storage.segment SET stream = $3, part = $4 WHERE bucket = $1 AND stream = $2 AND part = 0 AND kept",
            bucket_id,
            stream,
            into,
            part,
        )

    async def drop(self, tx: Transaction, bucket_id: int, streams: Sequence[bytes], *, purge: bool) -> None:
        """See the port."""
        where = "bucket = $1 AND stream = ANY($2::bytea[])"
        await self._drop(tx, where, bucket_id, list(streams), purge=purge)
        await self._drop_begun(tx, where, bucket_id, list(streams))

    async def drop_parts(self, tx: Transaction, bucket_id: int, stream: bytes, keep: Sequence[int] | None) -> None:
        """See the port."""
        where = "bucket = $1 AND stream = $2 AND part <> ALL($3::integer[])"
        await self._drop(tx, where, bucket_id, stream, list(keep or ()))
        await self._drop_begun(tx, where, bucket_id, stream, list(keep or ()))

    async def begin(self, tx: Transaction, begun: Begun) -> None:
        """Write a segment that is to be stored; what was begun in its place is dropped.

        Raises:
            Conflict: `storage.stream_kept`: bytes of a version are there already.
            TooMuch: `storage.too_much_begun`: of this account, or by this grant.
        """
        slot = begun.slot
        await self._require_free(tx, slot)
        await self._drop_begun(tx, "bucket = $1 AND stream = $2 AND part = $3 AND number = $4", *slot)
        await self._require_little_begun(tx, begun)
        await tx.execute(
            "INSERT INTO storage.begun (id, bucket, stream, part, number, account, payload, key, profile, countries,"
            " client, nodes, made_ms, grant_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
            begun.id,
            *slot,
            *begun[2:6],
            list(begun.countries),
            begun.client,
            list(begun.nodes),
            begun.made_ms,
            begun.grant_id,
        )
        await tx.execute(
            "INSERT INTO storage.payer (bucket, account) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            slot.bucket,
            begun.account,
        )

    async def begun(self, tx: Transaction, segment: bytes, account: bytes) -> Begun:
        """Look up one that is being stored; nobody else changes it until the transaction ends.

        Raises:
            NotFound: `storage.no_segment`: it is not, or not any more, or is another account's.
        """
        rows = await tx.fetch(
            "SELECT * FROM storage.begun WHERE id = $1 AND account = $2 FOR UPDATE",
            segment,
            account,
        )
        if not rows:
            raise NotFound(
                "storage.no_segment", "No such segment is being stored.", "Begin it anew: a day later it is forgotten."
            )
        row = rows[0]
        slot = Slot(row["bucket"], row["stream"], row["part"], row["number"])
        return Begun(slot=slot, **{name: row[name] for name in Begun._fields if name != "slot"})

    async def is_stored(self, tx: Transaction, segment: bytes) -> bool:
        """Whether it is stored, which a request that came again asks."""
        return bool(await tx.fetch("SELECT 1 FROM storage.segment WHERE id = $1", segment))

    async def name_more(self, tx: Transaction, segment: bytes, nodes: Sequence[int]) -> None:
        """Take note that further nodes may get a piece."""
        await tx.execute("UPDATE storage.begun SET nodes = nodes || $2::integer[] WHERE id = $1", segment, list(nodes))

    async def end(self, tx: Transaction, begun: Begun, nodes: Sequence[int]) -> None:
        """A segment is stored on `nodes`; what the others that were named for it may have of it is garbage.

        One that stood in its place is dropped.

        Raises:
            Conflict: `storage.stream_kept`: a version counts on that one.
        """
        now = self._clock.now_ms()
        slot = begun.slot
        await self._drop(tx, "bucket = $1 AND stream = $2 AND part = $3 AND number = $4 AND NOT kept", *slot)
        await self._require_free(tx, slot)
        await tx.execute("DELETE FROM storage.begun WHERE id = $1", begun.id)
        await tx.execute(
            "INSERT INTO storage.client (key) SELECT $1::bytea WHERE NOT EXISTS"
            " (SELECT 1 FROM storage.client WHERE key = $1) ON CONFLICT DO NOTHING",
            begun.client,
        )
        await tx.execute(
            "INSERT INTO storage.segment"
            " (id, bucket, stream, part, number, payload, key, profile, nodes, made_ms, kept, client)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, false,"
            "  (SELECT id FROM storage.client WHERE key = $11))",
            begun.id,
            *slot,
            begun.payload,
            begun.key,
            begun.profile,
            list(nodes),
            now,
            begun.client,
        )
        await tx.execute(
            "INSERT INTO storage.change (bucket, nodes, bytes, payload, at_ms) VALUES ($1, $2, $3, $4, $5)",
            slot.bucket,
            [node for node in nodes if node],
            piece_bytes(begun.payload, begun.profile),
            begun.payload,
            now,
        )
        await tx.execute(
            "INSERT INTO storage.dropped (segment, bucket, payload, profile, nodes, stored, purge, at_ms, due_ms)"
            " VALUES ($1, $2, $3, $4, $5, false, true, $6, $7)",
            begun.id,
            slot.bucket,
            begun.payload,
            begun.profile,
            [node for node in begun.nodes if node not in nodes],
            now,
            now + LATE_MS,
        )

    async def holding(
        self, tx: Transaction, bucket_id: int, stream: bytes, spans: Sequence[tuple[int, int, int]], limit: int
    ) -> list[tuple[SegmentRow, int]]:
        """The first kept segments that hold bytes of a stream, each with where it begins in its part.

        Each span is a part, and where what is wanted of it begins and ends; up to `limit` segments of each.
        """
        rows = await tx.fetch(
            "SELECT s.*, held.at FROM unnest($3::integer[], $4::bigint[], $5::bigint[])"
            "  WITH ORDINALITY AS span (part, start, stop, turn)"
            " CROSS JOIN LATERAL (SELECT id, at FROM"
            "   (SELECT id, number, payload, row_number() OVER w AS n, sum(payload) OVER w - payload AS at"
            "    FROM storage.segment WHERE bucket = $1 AND stream = $2 AND part = span.part AND kept"
            "    WINDOW w AS (ORDER BY number)) AS laid"
            "   WHERE number = n - 1 AND at < span.stop AND at + payload > span.start ORDER BY number LIMIT $6) AS held"
            " JOIN storage.segment s USING (id) ORDER BY span.turn, s.number",
            bucket_id,
            stream,
            [part for part, _, _ in spans],
            [start for _, start, _ in spans],
            [stop for _, _, stop in spans],
            limit,
        )
        return [(SegmentRow(**{name: row[name] for name in SegmentRow._fields}), row["at"]) for row in rows]

    async def forget(self, tx: Transaction, limit: int) -> int:
        """Drop what nobody came back for; returns how many segments."""
        before = self._clock.now_ms() - FORGOTTEN_MS
        await tx.execute("DELETE FROM storage.abandoned WHERE until_ms <= $1", self._clock.now_ms())
        old = "id IN (SELECT id FROM storage.{} WHERE made_ms < $1{} ORDER BY made_ms LIMIT $2 FOR UPDATE SKIP LOCKED)"
        begun = await self._drop_begun(tx, old.format("begun", ""), before, limit)
        stored = await self._drop(tx, old.format("segment", " AND NOT kept") + " AND NOT kept", before, limit)
        return begun + stored

    async def _require_free(self, tx: Transaction, slot: Slot) -> None:
        rows = await tx.fetch(
            "SELECT 1 FROM storage.segment WHERE bucket = $1 AND stream = $2 AND part = $3 AND number = $4 AND kept",
            *slot,
        )
        if rows:
            raise Conflict(
                "storage.stream_kept", "These bytes belong to a version already.", "Draw a new stream for new bytes."
            )

    async def _require_little_begun(self, tx: Transaction, begun: Begun) -> None:
        open_ = await shares.begun(tx, begun.account, begun.grant_id, BEGUN_BYTES_MIN, self._clock.now_ms())
        if open_.plus(max(begun.payload, BEGUN_BYTES_MIN)).exceeds(BEGUN_BYTES_MAX, begun.grant_id):
            raise TooMuch(
                "storage.too_much_begun",
                f"Too many segments {shares.whose(begun.grant_id)} were begun and not ended.",
                "End them, or wait: what is given up counts for three hours, what is not ended is given up in a day.",
            )

    async def _drop(self, tx: Transaction, where: str, *args: object, purge: bool = False) -> int:
        """Of large objects there are many: they become rows of nodes later, bit by bit."""
        now, n = self._clock.now_ms(), len(args)
        gone = f"(${n + 1} OR NOT kept)"
        return _rows_of(
            await tx.execute(
                f"WITH gone AS (DELETE FROM storage.segment WHERE {where} RETURNING *)"  # noqa: S608 - ours
                " INSERT INTO storage.dropped (segment, bucket, payload, profile, nodes, stored, purge, at_ms, due_ms)"
                f" SELECT id, bucket, payload, profile, nodes, true, {gone},"
                f"  greatest(${n + 2}::bigint, made_ms + CASE WHEN {gone} THEN 0 ELSE ${n + 3}::bigint END),"
                f"  ${n + 2}::bigint FROM gone",
                *args,
                purge,
                now,
                TRASH_MS,
            )
        )

    async def _drop_begun(self, tx: Transaction, where: str, *args: object) -> int:
        """What is under way may still come: nodes are asked once it cannot any more, and it counts until then."""
        now, n = self._clock.now_ms(), len(args)
        due_ms = now + LATE_MS
        return _rows_of(
            await tx.execute(
                f"WITH gone AS (DELETE FROM storage.begun WHERE {where} RETURNING *), noted AS ("  # noqa: S608 - ours
                " INSERT INTO storage.abandoned AS a (account, grant_id, until_ms, bytes)"
                f" SELECT account, grant_id, ${n + 3}::bigint, sum(greatest(payload, ${n + 4})) FROM gone"
                "  GROUP BY account, grant_id ORDER BY account, grant_id"
                " ON CONFLICT (account, until_ms, grant_id) DO UPDATE SET bytes = a.bytes + EXCLUDED.bytes)"
                " INSERT INTO storage.dropped (segment, bucket, payload, profile, nodes, stored, purge, at_ms, due_ms)"
                f" SELECT id, bucket, payload, profile, nodes, false, true, ${n + 1}::bigint, ${n + 2}::bigint"
                " FROM gone",
                *args,
                now,
                due_ms,
                -(-due_ms // HOUR_MS) * HOUR_MS,
                BEGUN_BYTES_MIN,
            )
        )


def _rows_of(tag: str) -> int:
    return int(tag.rpartition(" ")[2])


def piece_bytes(payload: int, profile: str) -> int:
    """How long each piece of a segment is."""
    return Layout(payload, PROFILES[profile].needed).piece_bytes
