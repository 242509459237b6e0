"""Who is signed in, in memory."""

from __future__ import annotations

from fallow.adapters.memory.database import memory_transaction
from fallow.ports.database import Transaction
from fallow.ports.session_store import SessionRow


class MemorySessionStore:
    """See `fallow.ports.session_store.SessionStore`."""

    def __init__(self) -> None:
        self._sessions: dict[bytes, SessionRow] = {}

    async def add(self, tx: Transaction, row: SessionRow) -> None:
        """Add a session."""
        memory_transaction(tx).add(self._sessions, row.digest, row)

    async def session(self, tx: Transaction, digest: bytes) -> SessionRow | None:
        """Look a session up."""
        memory_transaction(tx)
        return self._sessions.get(digest)

    async def touch(self, tx: Transaction, digest: bytes, now: int) -> None:
        """Take note that a session was used."""
        mine = memory_transaction(tx)
        if digest in self._sessions:
            mine.put(self._sessions, digest, self._sessions[digest]._replace(seen_at=now))

    async def end(self, tx: Transaction, digest: bytes) -> None:
        """Forget a session."""
        mine = memory_transaction(tx)
        if digest in self._sessions:
            mine.drop(self._sessions, digest)

    async def forget(self, tx: Transaction, before: int) -> None:
        """Forget all that were opened earlier."""
        mine = memory_transaction(tx)
        for digest in [digest for digest, row in self._sessions.items() if row.opened_at < before]:
            mine.drop(self._sessions, digest)

    async def thin_out(self, tx: Transaction, key_id: str, keep: int) -> None:
        """Keep only the latest sessions of a key."""
        mine = memory_transaction(tx)
        of_key = [row for row in self._sessions.values() if row.key_id == key_id]
        for row in sorted(of_key, key=lambda row: (-row.opened_at, row.digest))[keep:]:
            mine.drop(self._sessions, row.digest)
