"""Who is signed in, on PostgreSQL."""

from __future__ import annotations

from typing import Final

from fallow.ports.database import Transaction
from fallow.ports.session_store import ChallengeRow, SessionRow

_THIN_OUT_KEY: Final = """
DELETE FROM registry.session WHERE digest IN (
    SELECT digest FROM registry.session WHERE key_id = $1 ORDER BY opened_at DESC, digest OFFSET $2
)
"""
_THIN_OUT_WALLET: Final = """
DELETE FROM registry.session WHERE digest IN (
    SELECT digest FROM registry.session WHERE wallet = $1 ORDER BY opened_at DESC, digest OFFSET $2
)
"""


class PostgresSessionStore:
    """See `fallow.ports.session_store.SessionStore`."""

    async def add(self, tx: Transaction, row: SessionRow) -> None:
        """Add a session."""
        await tx.execute(
            "INSERT INTO registry.session (digest, key_id, opened_at, seen_at, wallet) VALUES ($1, $2, $3, $4, $5)",
            *row,
        )

    async def session(self, tx: Transaction, digest: bytes) -> SessionRow | None:
        """Look a session up."""
        rows = await tx.fetch(
            "SELECT digest, key_id, opened_at, seen_at, wallet FROM registry.session WHERE digest = $1", digest
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

    async def thin_out(self, tx: Transaction, holder: str | bytes, keep: int) -> None:
        """Keep only the latest sessions of a key or a wallet."""
        await tx.execute(_THIN_OUT_KEY if isinstance(holder, str) else _THIN_OUT_WALLET, holder, keep)

    async def ask(self, tx: Transaction, row: ChallengeRow) -> None:
        """Keep what a wallet was asked to sign."""
        await tx.execute("INSERT INTO registry.challenge (nonce, wallet, asked_at) VALUES ($1, $2, $3)", *row)

    async def take_challenge(self, tx: Transaction, nonce: bytes) -> ChallengeRow | None:
        """Return what was asked with a nonce, and forget it."""
        rows = await tx.fetch(
            "DELETE FROM registry.challenge WHERE nonce = $1 RETURNING nonce, wallet, asked_at", nonce
        )
        return ChallengeRow(*rows[0].values()) if rows else None

    async def forget_challenges(self, tx: Transaction, before: int) -> None:
        """Forget all that were asked earlier."""
        await tx.execute("DELETE FROM registry.challenge WHERE asked_at < $1", before)
