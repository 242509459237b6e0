"""Delegations, signed orders and receipts on PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence

from fallow.domain.delegations import Delegation
from fallow.ports.database import Row, Transaction
from fallow.ports.delegations import OrderSignature, ReceiptRow


class PostgresDelegationStore:
    """See `fallow.ports.delegations.DelegationStore`."""

    async def add_delegation(self, tx: Transaction, delegation: Delegation) -> None:
        """Add one."""
        await tx.execute(
            "INSERT INTO registry.delegation (key, account, issued_at, expires_at, signature, revoked_at)"
            " VALUES ($1, $2, $3, $4, $5, $6)",
            delegation.key,
            delegation.account,
            delegation.issued_at,
            delegation.expires_at,
            delegation.signature,
            delegation.revoked_at,
        )

    async def delegation(self, tx: Transaction, key: bytes) -> Delegation | None:
        """Look a key up."""
        rows = await tx.fetch("SELECT * FROM registry.delegation WHERE key = $1", key)
        return _delegation(rows[0]) if rows else None

    async def delegations(self, tx: Transaction, account: bytes, limit: int) -> list[Delegation]:
        """All of an account, the latest first."""
        rows = await tx.fetch(
            "SELECT * FROM registry.delegation WHERE account = $1 ORDER BY issued_at DESC, key LIMIT $2", account, limit
        )
        return [_delegation(row) for row in rows]

    async def live(self, tx: Transaction, account: bytes, now: int) -> int:
        """How many of an account are neither revoked nor expired."""
        rows = await tx.fetch(
            "SELECT count(*) AS live FROM registry.delegation"
            " WHERE account = $1 AND revoked_at IS NULL AND expires_at > $2",
            account,
            now,
        )
        return int(rows[0]["live"])

    async def revoke(self, tx: Transaction, key: bytes, now: int) -> None:
        """End one."""
        await tx.execute(
            "UPDATE registry.delegation SET revoked_at = $2 WHERE key = $1 AND revoked_at IS NULL", key, now
        )

    async def add_order(self, tx: Transaction, row: OrderSignature) -> OrderSignature:
        """Add a signed order, unless one is there."""
        await tx.execute(
            "INSERT INTO registry.signed_order (account, id, key, signature, body)"
            " VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
            *row,
        )
        rows = await tx.fetch(
            "SELECT * FROM registry.signed_order WHERE account = $1 AND id = $2", row.account, row.order
        )
        (found,) = rows
        return OrderSignature(found["account"], found["id"], found["key"], found["signature"], found["body"])

    async def add_receipts(self, tx: Transaction, rows: Sequence[ReceiptRow]) -> None:
        """Add receipts."""
        if not rows:
            return
        batch = rows[0]
        await tx.execute(
            "INSERT INTO registry.receipt_batch (signature, account, key, leaves) VALUES ($1, $2, $3, $4::bytea[])"
            " ON CONFLICT DO NOTHING",
            batch.signature,
            batch.account,
            batch.key,
            list(batch.leaves),
        )
        await tx.execute(
            "INSERT INTO registry.receipt (lease, signature, place)"
            " SELECT lease, $2, place FROM unnest($1::bytea[], $3::integer[]) AS given (lease, place)"
            " ON CONFLICT DO NOTHING",
            [row.lease for row in rows],
            batch.signature,
            [row.place for row in rows],
        )

    async def mutual(self, tx: Transaction, leases: Sequence[bytes]) -> frozenset[bytes]:
        """Those of `leases` that have a receipt."""
        rows = await tx.fetch("SELECT lease FROM registry.receipt WHERE lease = ANY($1::bytea[])", list(leases))
        return frozenset(row["lease"] for row in rows)


def _delegation(row: Row) -> Delegation:
    return Delegation(
        account=row["account"],
        key=row["key"],
        issued_at=row["issued_at"],
        expires_at=row["expires_at"],
        signature=row["signature"],
        revoked_at=row["revoked_at"],
    )
