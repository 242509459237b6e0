"""Who is signed in, as the registry keeps it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from fallow.ports.database import Transaction


class SessionRow(NamedTuple):
    """A session: its secret's SHA-256, the API key that opened it, and when it was opened and used last (ms)."""

    digest: bytes
    key_id: str
    opened_at: int
    seen_at: int


class SessionStore(Protocol):
    """Sessions, each of an API key."""

    async def add(self, tx: Transaction, row: SessionRow) -> None:
        """Add a session."""
        ...

    async def session(self, tx: Transaction, digest: bytes) -> SessionRow | None:
        """Look a session up."""
        ...

    async def touch(self, tx: Transaction, digest: bytes, now: int) -> None:
        """Take note that a session was used; one that is gone stays so."""
        ...

    async def end(self, tx: Transaction, digest: bytes) -> None:
        """Forget a session, if it is there."""
        ...

    async def forget(self, tx: Transaction, before: int) -> None:
        """Forget all that were opened earlier."""
        ...

    async def thin_out(self, tx: Transaction, key_id: str, keep: int) -> None:
        """Keep only the latest sessions of a key."""
        ...
