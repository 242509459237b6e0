"""The store of audits on PostgreSQL."""

from __future__ import annotations

import msgspec

from fallow.domain.views.audits import AuditView
from fallow.ports.audit_store import KEPT
from fallow.ports.database import Transaction


class PostgresAuditStore:
    """See `fallow.ports.audit_store.AuditStore`."""

    async def add(self, tx: Transaction, audit: AuditView) -> None:
        """Keep one."""
        doc = msgspec.msgpack.encode(audit)
        await tx.execute("INSERT INTO settle.audit (began_at, doc) VALUES ($1, $2)", audit.began_at, doc)
        await tx.execute(
            "DELETE FROM settle.audit WHERE no NOT IN"
            " (SELECT no FROM settle.audit ORDER BY began_at DESC, no DESC LIMIT $1)",
            KEPT,
        )

    async def latest(self, tx: Transaction) -> AuditView | None:
        """The one that began last."""
        rows = await tx.fetch("SELECT doc FROM settle.audit ORDER BY began_at DESC, no DESC LIMIT 1")
        return msgspec.msgpack.decode(rows[0]["doc"], type=AuditView) if rows else None
