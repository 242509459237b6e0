"""Commitments and draws on PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from fallow.domain.canaries import Known
from fallow.domain.draws import Draw, Purpose
from fallow.domain.reruns import Rerun
from fallow.domain.rollcall import Call
from fallow.ports.checks import Alone, PartRow, SeedRow
from fallow.ports.database import Row, Transaction


class PostgresCheckStore:
    """See `fallow.ports.checks.CheckStore`."""

    async def seeds(self, tx: Transaction, limit: int) -> list[SeedRow]:
        """Epochs of draws, the latest first."""
        rows = await tx.fetch("SELECT * FROM checks.seed ORDER BY number DESC LIMIT $1", limit)
        return [_seed(row) for row in rows]

    async def seed(self, tx: Transaction, number: int) -> SeedRow | None:
        """One epoch of draws."""
        rows = await tx.fetch("SELECT * FROM checks.seed WHERE number = $1", number)
        return _seed(rows[0]) if rows else None

    async def put_seed(self, tx: Transaction, row: SeedRow) -> None:
        """Write a row over its older version, all but the commitment."""
        await tx.execute(
            "INSERT INTO checks.seed (number, commitment, opened_at, closed_at) VALUES ($1, $2, $3, $4)"
            " ON CONFLICT (number) DO UPDATE SET opened_at = EXCLUDED.opened_at, closed_at = EXCLUDED.closed_at",
            *row,
        )

    async def lock_seed(self, tx: Transaction, number: int) -> SeedRow | None:
        """One epoch of draws, locked."""
        rows = await tx.fetch("SELECT * FROM checks.seed WHERE number = $1 FOR UPDATE", number)
        return _seed(rows[0]) if rows else None

    async def parts(self, tx: Transaction, number: int) -> list[PartRow]:
        """What validators add to a seed."""
        rows = await tx.fetch("SELECT * FROM checks.part WHERE number = $1 ORDER BY validator", number)
        return [PartRow(row["number"], row["validator"], row["pledge"], row["part"]) for row in rows]

    async def put_part(self, tx: Transaction, row: PartRow) -> None:
        """Write a pledge, or its part where none is."""
        await tx.execute(
            "INSERT INTO checks.part (number, validator, pledge, part) VALUES ($1, $2, $3, $4)"
            " ON CONFLICT (number, validator) DO UPDATE SET part = coalesce(part.part, EXCLUDED.part)",
            *row,
        )

    async def add(self, tx: Transaction, draws: Sequence[Draw]) -> None:
        """Keep draws."""
        if draws:
            await tx.execute(
                "INSERT INTO checks.draw (number, lease, purpose, node, at, one_in, hit) SELECT * FROM"
                " unnest($1::bigint[], $2::bytea[], $3::text[], $4::bytea[], $5::bigint[], $6::bigint[], $7::boolean[])"
                " ON CONFLICT DO NOTHING",
                *map(list, zip(*draws, strict=True)),
            )

    async def known(self, tx: Transaction) -> list[Known]:
        """Items whose results are known, the oldest first."""
        rows = await tx.fetch("SELECT doc FROM checks.known ORDER BY at, job, item")
        return [msgspec.json.decode(row["doc"], type=Known) for row in rows]

    async def put_known(self, tx: Transaction, known: Mapping[tuple[str, int], Known | None]) -> None:
        """Write items over their older versions, or take them away."""
        gone = [key for key, entry in known.items() if entry is None]
        if gone:
            await tx.execute(
                "DELETE FROM checks.known WHERE (job, item) IN (SELECT * FROM unnest($1::text[], $2::integer[]))",
                *map(list, zip(*gone, strict=True)),
            )
        rows = [(*entry.key, entry.at, msgspec.json.encode(entry)) for entry in known.values() if entry is not None]
        if rows:
            await tx.execute(
                "INSERT INTO checks.known (job, item, at, doc)"
                " SELECT * FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::bytea[])"
                " ON CONFLICT (job, item) DO UPDATE SET doc = EXCLUDED.doc",
                *map(list, zip(*rows, strict=True)),
            )

    async def add_reruns(self, tx: Transaction, reruns: Sequence[Rerun]) -> None:
        """Keep what re-runs have shown."""
        for found in reruns:
            await tx.execute(
                "INSERT INTO checks.rerun (lease, account, program, nodes, owners, same, at)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
                *found,
            )

    async def reruns(self, tx: Transaction, limit: int) -> list[Rerun]:
        """What re-runs have shown, the latest first."""
        rows = await tx.fetch("SELECT * FROM checks.rerun ORDER BY at DESC, lease DESC LIMIT $1", limit)
        return [
            Rerun(
                row["lease"],
                row["account"],
                row["program"],
                (row["nodes"][0], row["nodes"][1]),
                (row["owners"][0], row["owners"][1]),
                row["same"],
                row["at"],
            )
            for row in rows
        ]

    async def draws(self, tx: Transaction, number: int, after: tuple[bytes, str], limit: int) -> list[Draw]:
        """An epoch's draws, those above `after`."""
        rows = await tx.fetch(
            "SELECT * FROM checks.draw WHERE number = $1 AND (lease, purpose) > ($2, $3)"
            " ORDER BY lease, purpose LIMIT $4",
            number,
            *after,
            limit,
        )
        return [
            Draw(
                row["number"],
                row["lease"],
                Purpose(row["purpose"]),
                row["node"],
                row["at"],
                row["one_in"],
                row["hit"],
            )
            for row in rows
        ]

    async def add_call(self, tx: Transaction, call: Call, keep_from: int) -> None:
        """Keep a roll call, and forget old ones that convicted nobody."""
        await tx.execute(
            "INSERT INTO checks.roll_call (id, at, found, doc) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
            call.id,
            call.at,
            bool(call.found),
            msgspec.json.encode(call),
        )
        await tx.execute("DELETE FROM checks.roll_call WHERE at < $1 AND NOT found", keep_from)

    async def calls(self, tx: Transaction, limit: int, *, found: bool) -> list[Call]:
        """Roll calls, the latest first."""
        rows = await tx.fetch(
            "SELECT doc FROM checks.roll_call WHERE found OR NOT $1 ORDER BY at DESC, id LIMIT $2", found, limit
        )
        return [msgspec.json.decode(row["doc"], type=Call) for row in rows]

    async def alone(self, tx: Transaction) -> dict[bytes, Alone]:
        """How fast each node was alone."""
        rows = await tx.fetch("SELECT node, rate, at FROM checks.alone")
        return {row["node"]: Alone(row["rate"], row["at"]) for row in rows}

    async def put_alone(self, tx: Transaction, node: bytes, alone: Alone) -> None:
        """Write how fast a node was alone."""
        await tx.execute(
            "INSERT INTO checks.alone (node, rate, at) VALUES ($1, $2, $3)"
            " ON CONFLICT (node) DO UPDATE SET rate = EXCLUDED.rate, at = EXCLUDED.at",
            node,
            *alone,
        )


def _seed(row: Row) -> SeedRow:
    return SeedRow(row["number"], row["commitment"], row["opened_at"], row["closed_at"])
