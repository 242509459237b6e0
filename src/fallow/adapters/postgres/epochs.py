"""The closing's store on PostgreSQL."""

from __future__ import annotations

from fallow.ports.database import Transaction
from fallow.ports.epochs import Closed


class PostgresEpochStore:
    """See `fallow.ports.epochs.EpochStore`."""

    async def lead(self, tx: Transaction, holder: str, now: int, until: int) -> bool:
        """Become the one closer, or stay it."""
        rows = await tx.fetch(
            "INSERT INTO epochs.closer AS c (holder, until) VALUES ($1, $3)"
            " ON CONFLICT (one) DO UPDATE SET holder = $1, until = $3 WHERE c.holder = $1 OR c.until <= $2"
            " RETURNING holder",
            holder,
            now,
            until,
        )
        return bool(rows)

    async def last(self, tx: Transaction) -> Closed | None:
        """The latest epoch that is closed."""
        rows = await tx.fetch("SELECT epoch, statement FROM epochs.closed ORDER BY epoch DESC LIMIT 1")
        return Closed(rows[0]["epoch"], rows[0]["statement"]) if rows else None

    async def after(self, tx: Transaction, epoch: int | None) -> Closed | None:
        """The first closed epoch after one."""
        rows = await tx.fetch(
            "SELECT epoch, statement FROM epochs.closed WHERE epoch > $1 ORDER BY epoch LIMIT 1",
            -1 if epoch is None else epoch,
        )
        return Closed(rows[0]["epoch"], rows[0]["statement"]) if rows else None

    async def add(self, tx: Transaction, closed: Closed) -> None:
        """Note that an epoch is closed."""
        await tx.execute("INSERT INTO epochs.closed (epoch, statement) VALUES ($1, $2)", *closed)
