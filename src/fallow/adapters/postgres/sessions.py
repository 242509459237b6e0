"""Who is signed in, on PostgreSQL."""

from __future__ import annotations

from fallow.ports.database import Transaction
from fallow.ports.session_store import SessionRow


class PostgresSessionStore:
    """See `fallow.ports.session_store.SessionStore`."""

    async def add(self, tx: Transaction, row: SessionRow) -> None:
        """Add a session."""
        await tx.execute(
            "INSERT INTO registry.session (digest, key_id, opened_at, seen_at) VALUES ($1, $2, $3, $4)", *row
        )

    async def session(self, tx: Transaction, digest: bytes) -> SessionRow | None:
        """Look a session up."""
        rows = await tx.fetch(
            "SELECT digest, key_id, opened_at, seen_at FROM registry.session WHERE digest = $1", digest
        )
        return SessionRow(*rows[0].values()) if rows else None

    async def touch(self, tx: Transaction, digest: bytes, now: int) -> None:
        """Take note that a session was used."""
        await tx.execute("UPDATE registry.session SET seen_at = $2 WHERE digest = $1", digest, now)

    async def end(self, tx: Transaction, digest: bytes) -> None:
        """Forget a session."""
        await tx.execute("DELETE FROM registry.session WHERE digest = $1", digest)

    async def forget(self, tx: Transaction, before: int) -> None:
        """Forget all that were opened earlier."""
        await tx.execute("DELETE FROM registry.session WHERE opened_at < $1", before)

    async def thin_out(self, tx: Transaction, key_id: str, keep: int) -> None:
        """Keep only the latest sessions of a key."""
        await tx.execute(
            "DELETE FROM registry.session WHERE digest IN (SELECT digest FROM registry.session"
            " WHERE key_id = $1 ORDER BY opened_at DESC, digest OFFSET $2)",
            key_id,
            keep,
        )
