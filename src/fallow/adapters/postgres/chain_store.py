"""How far the chain was read, on PostgreSQL."""

from __future__ import annotations

from fallow.ports.database import Transaction


class PostgresChainStore:
    """See `fallow.ports.chain_store.ChainStore`."""

    async def next_block(self, tx: Transaction, chain_id: int, first: int) -> int:
        """The block to go on with."""
        await tx.execute(
            "INSERT INTO settle.chain_read (chain, next) VALUES ($1, $2) ON CONFLICT DO NOTHING", chain_id, first
        )
        (row,) = await tx.fetch("SELECT next FROM settle.chain_read WHERE chain = $1", chain_id)
        return int(row["next"])

    async def advance(self, tx: Transaction, chain_id: int, start: int, after: int) -> bool:
        """Note what was read."""
        rows = await tx.fetch(
            "UPDATE settle.chain_read SET next = $3 WHERE chain = $1 AND next = $2 RETURNING next",
            chain_id,
            start,
            after,
        )
        return bool(rows)
