"""Who is signed in, in memory."""

from __future__ import annotations

from fallow.adapters.memory.database import memory_transaction
from fallow.ports.database import Transaction
from fallow.ports.session_store import ChallengeRow, SessionRow


class MemorySessionStore:
    """See `fallow.ports.session_store.SessionStore`."""

    def __init__(self) -> None:
        self._sessions: dict[bytes, SessionRow] = {}
        self._challenges: dict[bytes, ChallengeRow] = {}

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

    async def thin_out(self, tx: Transaction, holder: str | bytes, keep: int) -> None:
        """Keep only the latest sessions of a key or a wallet."""
        mine = memory_transaction(tx)
        held = [row for row in self._sessions.values() if holder in (row.key_id, row.wallet)]
        for row in sorted(held, key=lambda row: (-row.opened_at, row.digest))[keep:]:
            mine.drop(self._sessions, row.digest)

    async def ask(self, tx: Transaction, row: ChallengeRow) -> None:
        """Keep what a wallet was asked to sign."""
        memory_transaction(tx).add(self._challenges, row.nonce, row)

    async def take_challenge(self, tx: Transaction, nonce: bytes) -> ChallengeRow | None:
        """Return what was asked with a nonce, and forget it."""
        mine, row = memory_transaction(tx), self._challenges.get(nonce)
        if row is not None:
            mine.drop(self._challenges, nonce)
        return row

    async def forget_challenges(self, tx: Transaction, before: int) -> None:
        """Forget all that were asked earlier."""
        mine = memory_transaction(tx)
        for nonce in [nonce for nonce, row in self._challenges.items() if row.asked_at < before]:
            mine.drop(self._challenges, nonce)
