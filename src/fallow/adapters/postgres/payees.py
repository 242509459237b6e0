"""To whom accounts are paid, on PostgreSQL."""

from __future__ import annotations

from fallow.domain.payees import Payee
from fallow.ports.database import Transaction


class PostgresPayeeStore:
    """See `fallow.ports.payees.PayeeStore`."""

    async def payee(self, tx: Transaction, account: bytes) -> Payee | None:
        """The latest word of an account."""
        rows = await tx.fetch(
            "SELECT account, paid_to, pending, effective_at, signed_at_s FROM registry.payee WHERE account = $1",
            account,
        )
        return Payee(*rows[0].values()) if rows else None

    async def spent(self, tx: Transaction, account: bytes) -> int:
        """What was kept with it."""
        rows = await tx.fetch("SELECT spent_ms FROM registry.payee WHERE account = $1", account)
        return int(rows[0]["spent_ms"]) if rows else 0

    async def put(self, tx: Transaction, payee: Payee, before_ms: int, spent_ms: int) -> bool:
        """Keep an account's word."""
        rows = await tx.fetch(
            "INSERT INTO registry.payee AS p (account, paid_to, pending, effective_at, signed_at_s, spent_ms)"
            " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (account) DO UPDATE"
            " SET paid_to = $2, pending = $3, effective_at = $4, signed_at_s = $5, spent_ms = $6"
            " WHERE p.signed_at_s < $5 AND p.spent_ms = $7 RETURNING account",
            *payee,
            spent_ms,
            before_ms,
        )
        return bool(rows)
