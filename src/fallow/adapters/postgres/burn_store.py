"""Burns and their price on PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from fallow.domain.rewards.oracle import Oracle
from fallow.ports.burn_store import Burn
from fallow.ports.database import Transaction

NEW = msgspec.msgpack.encode(Oracle())


class PostgresBurnStore:
    """See `fallow.ports.burn_store.BurnStore`."""

    async def wait(self, tx: Transaction, burns: Sequence[Burn]) -> None:
        """Have burns credited."""
        if burns:
            await tx.execute(
                "INSERT INTO settle.burn (chain, transaction, place, account, amount)"
                " SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bigint[], $4::bytea[], $5::numeric[])"
                " ON CONFLICT DO NOTHING",
                *map(list, zip(*burns, strict=True)),
            )

    async def take(self, tx: Transaction, limit: int) -> list[Burn]:
        """Take out those that wait longest."""
        rows = await tx.fetch(
            "DELETE FROM settle.burn WHERE pos IN"
            " (SELECT pos FROM settle.burn ORDER BY pos LIMIT $1 FOR UPDATE SKIP LOCKED) RETURNING *",
            limit,
        )
        return [
            Burn(row["chain"], row["transaction"], row["place"], row["account"], row["amount"])
            for row in sorted(rows, key=lambda row: int(row["pos"]))
        ]

    async def count(self, tx: Transaction) -> int:
        """How many wait."""
        (row,) = await tx.fetch("SELECT count(*) AS waiting FROM settle.burn")
        return int(row["waiting"])

    async def look(self, tx: Transaction) -> Oracle:
        """What is known of the price, for whoever does not change it."""
        rows = await tx.fetch("SELECT doc FROM settle.oracle")
        return msgspec.msgpack.decode(rows[0]["doc"], type=Oracle) if rows else Oracle()

    async def oracle(self, tx: Transaction) -> Oracle:
        """What is known of the price."""
        await tx.execute("INSERT INTO settle.oracle (doc) VALUES ($1) ON CONFLICT DO NOTHING", NEW)
        (row,) = await tx.fetch("SELECT doc FROM settle.oracle FOR UPDATE")
        return msgspec.msgpack.decode(row["doc"], type=Oracle)

    async def save(self, tx: Transaction, oracle: Oracle) -> None:
        """Write it over its older version."""
        await tx.execute("UPDATE settle.oracle SET doc = $1", msgspec.msgpack.encode(oracle))
