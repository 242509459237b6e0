"""Ingest's store on PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence

from fallow.ports.database import Transaction
from fallow.ports.ingest_store import BatchKey, EpochEnd, LoggedBatch, PromisedBatch, StoredBatch, StoredOpening

LOCK = 0x46_41_4C_4C_4F_57_01
"""Any number that nothing else locks."""


class PostgresIngestStore:
    """See `fallow.ports.ingest_store.IngestStore`."""

    async def lock(self, tx: Transaction) -> None:
        """Make this transaction the only one that appends until it ends."""
        await tx.execute("SELECT pg_advisory_xact_lock($1)", LOCK)

    async def expected(self, tx: Transaction, nodes: Sequence[bytes]) -> dict[bytes, tuple[int, int]]:
        """Boot and next sequence number that each node must send."""
        rows = await tx.fetch("SELECT * FROM ingest.expected WHERE node = ANY($1::bytea[])", list(nodes))
        return {row["node"]: (row["boot"], row["seq"]) for row in rows}

    async def promises(self, tx: Transaction, keys: Sequence[BatchKey]) -> dict[BatchKey, tuple[bytes, bytes]]:
        """Root and promise of the batches that are there already."""
        if not keys:
            return {}
        rows = await tx.fetch(
            "SELECT b.node, b.boot, b.seq, b.root, b.promise FROM ingest.batch b"
            " JOIN unnest($1::bytea[], $2::bigint[], $3::bigint[]) AS k (node, boot, seq)"
            " USING (node, boot, seq)",
            *map(list, zip(*keys, strict=True)),
        )
        return {BatchKey(row["node"], row["boot"], row["seq"]): (row["root"], row["promise"]) for row in rows}

    async def latest_at(self, tx: Transaction) -> int:
        """When the last batch came."""
        rows = await tx.fetch("SELECT received_at FROM ingest.batch ORDER BY pos DESC LIMIT 1")
        return int(rows[0]["received_at"]) if rows else 0

    async def append(self, tx: Transaction, batches: Sequence[StoredBatch], openings: Sequence[StoredOpening]) -> None:
        """Write batches in this order."""
        await tx.copy(
            "ingest.batch",
            ["node", "boot", "seq", "epoch", "records", "root", "data", "promise", "received_at"],
            [(*batch.key, *batch[1:]) for batch in batches],
        )
        # The last batch of a node decides; one statement must not meet the same row twice.
        latest = {batch.key.node: (batch.key.boot, batch.key.seq + batch.records) for batch in batches}
        await tx.execute(
            "INSERT INTO ingest.expected (node, boot, seq)"
            " SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bigint[])"
            " ON CONFLICT (node) DO UPDATE SET boot = EXCLUDED.boot, seq = EXCLUDED.seq",
            list(latest),
            [boot for boot, _ in latest.values()],
            [seq for _, seq in latest.values()],
        )
        if openings:
            subjects = list({opening.subject for opening in openings})
            rows = await tx.fetch("SELECT subject FROM ingest.erased WHERE subject = ANY($1::bytea[])", subjects)
            erased = {row["subject"] for row in rows}
            kept = [tuple(opening) for opening in openings if opening.subject not in erased]
            await tx.copy("ingest.opening", ["record", "field", "salt", "value", "subject"], kept)

    async def erase(self, tx: Transaction, subjects: Sequence[bytes]) -> int:
        """Delete all private values about somebody, and keep none from now on."""
        whom = list(subjects)
        await tx.execute("INSERT INTO ingest.erased SELECT * FROM unnest($1::bytea[]) ON CONFLICT DO NOTHING", whom)
        done = await tx.execute("DELETE FROM ingest.opening WHERE subject = ANY($1::bytea[]) OR subject = ''", whom)
        return int(done.removeprefix("DELETE "))

    async def after(self, tx: Transaction, pos: int, limit: int) -> list[LoggedBatch]:
        """Read the log."""
        rows = await tx.fetch(
            "SELECT pos, node, data, received_at FROM ingest.batch WHERE pos > $1 ORDER BY pos LIMIT $2", pos, limit
        )
        return [LoggedBatch(row["pos"], row["node"], row["data"], row["received_at"]) for row in rows]

    async def of_epoch(self, tx: Transaction, epoch: int, pos: int, limit: int) -> list[PromisedBatch]:
        """Read an epoch's part of the log above a position."""
        rows = await tx.fetch(
            "SELECT pos, data, promise FROM ingest.batch WHERE epoch = $1 AND pos > $2 ORDER BY pos LIMIT $3",
            epoch,
            pos,
            limit,
        )
        return [PromisedBatch(row["pos"], row["data"], row["promise"]) for row in rows]

    async def last_epoch(self, tx: Transaction) -> int | None:
        """The last epoch that anything was written into."""
        (row,) = await tx.fetch("SELECT max(epoch) AS epoch FROM ingest.batch")
        return None if row["epoch"] is None else int(row["epoch"])

    async def first_epoch(self, tx: Transaction) -> int | None:
        """The first epoch that anything was written into, or that ended."""
        rows = await tx.fetch(
            "SELECT least((SELECT min(epoch) FROM ingest.epoch_end), (SELECT min(epoch) FROM ingest.batch)) AS epoch"
        )
        return None if rows[0]["epoch"] is None else int(rows[0]["epoch"])

    async def ended(self, tx: Transaction, epoch: int | None = None) -> EpochEnd | None:
        """How an epoch ended, or the latest that did."""
        rows = await tx.fetch(
            "SELECT epoch, from_ms, until_ms FROM ingest.epoch_end WHERE $1::bigint IS NULL OR epoch = $1"
            " ORDER BY epoch DESC LIMIT 1",
            epoch,
        )
        return EpochEnd(rows[0]["epoch"], rows[0]["from_ms"], rows[0]["until_ms"]) if rows else None

    async def end_epoch(self, tx: Transaction, end: EpochEnd) -> None:
        """Note that an epoch is over."""
        await tx.execute("INSERT INTO ingest.epoch_end (epoch, from_ms, until_ms) VALUES ($1, $2, $3)", *end)
