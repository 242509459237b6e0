"""Whose database it is: two networks in one would pay from the same accounts, neither knowing the keys of the other."""

from __future__ import annotations

from fallow.domain.errors import Conflict
from fallow.ports.database import Database


async def claim_database(database: Database, net: str, public_key: bytes) -> None:
    """Make it the database of a network (`public_key` is what it signs with), or see that it is.

    Raises:
        Conflict: it is another network's, or this one's whose id or keys were lost (`database.other_network`).
    """
    async with database.transaction() as tx:
        await tx.execute(
            "INSERT INTO registry.network (net, public_key) VALUES ($1, $2) ON CONFLICT DO NOTHING", net, public_key
        )
        (row,) = await tx.fetch("SELECT net, public_key FROM registry.network")
    if (row["net"], row["public_key"]) != (net, public_key):
        raise Conflict(
            "database.other_network",
            f"The database is that of the network {row['net']}, and this data folder is not.",
            "Give this one a database of its own; or restore network.json and secrets/ from the same backup.",
        )
