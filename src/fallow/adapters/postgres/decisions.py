"""The network's outbox on PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from fallow.domain.decisions import Decision, decision_type, packed
from fallow.ports.database import Row, Transaction


class PostgresDecisionStore:
    """See `fallow.ports.decisions.DecisionStore`."""

    async def add(self, tx: Transaction, decisions: Sequence[Decision]) -> None:
        """Have decisions sealed."""
        if decisions:
            await tx.copy(
                "outbox.decision",
                ["at", "kind", "version", "body"],
                [(at, body.kind, body.version, packed(body)) for at, body in decisions],
            )

    async def pending(self, tx: Transaction, kind: str, after: int, limit: int) -> list[tuple[int, Decision]]:
        """Look at those of a kind that wait."""
        rows = await tx.fetch(
            "SELECT * FROM outbox.decision WHERE kind = $1 AND pos > $2 ORDER BY pos LIMIT $3", kind, after, limit
        )
        return [(int(row["pos"]), _decision(row)) for row in rows]

    async def take(self, tx: Transaction, limit: int) -> list[Decision]:
        """Take out the oldest ones."""
        rows = await tx.fetch(
            "DELETE FROM outbox.decision WHERE pos IN"
            " (SELECT pos FROM outbox.decision ORDER BY pos LIMIT $1 FOR UPDATE SKIP LOCKED) RETURNING *",
            limit,
        )
        return [_decision(row) for row in sorted(rows, key=lambda row: int(row["pos"]))]


def _decision(row: Row) -> Decision:
    return Decision(row["at"], msgspec.msgpack.decode(row["body"], type=decision_type(row["kind"], row["version"])))
