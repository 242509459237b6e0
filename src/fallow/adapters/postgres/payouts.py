"""The store of payouts on PostgreSQL."""

from __future__ import annotations

from fallow.ports.database import Transaction


class PostgresPayoutStore:
    """See `fallow.ports.payout_store.PayoutStore`."""

    async def last(self, tx: Transaction) -> int | None:
        """The latest epoch whose earnings have left."""
        (row,) = await tx.fetch("SELECT max(epoch) AS epoch FROM settle.paid_out")
        epoch: int | None = row["epoch"]
        return epoch

    async def add(self, tx: Transaction, epoch: int) -> None:
        """Note that an epoch's have."""
        await tx.execute("INSERT INTO settle.paid_out (epoch) VALUES ($1) ON CONFLICT DO NOTHING", epoch)
