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

    async def put(self, tx: Transaction, payee: Payee) -> bool:
        """Keep an account's word."""
        rows = await tx.fetch(
            "INSERT INTO registry.payee AS p (account, paid_to, pending, effective_at, signed_at_s)"
            " VALUES ($1, $2, $3, $4, $5) ON CONFLICT (account)"
            " DO UPDATE SET paid_to = $2, pending = $3, effective_at = $4, signed_at_s = $5 WHERE p.signed_at_s < $5"
            " RETURNING account",
            *payee,
        )
        return bool(rows)
