"""Who is signed in, as the registry keeps it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from fallow.ports.database import Transaction


class SessionRow(NamedTuple):
    """A session: its secret's SHA-256, the API key or the wallet that opened it, when it was opened and used last (ms).

    One of `key_id` and `wallet` (an account's 20 bytes) is None.
    """

    digest: bytes
    key_id: str | None
    opened_at: int
    seen_at: int
    wallet: bytes | None = None


class ChallengeRow(NamedTuple):
    """A text that a wallet was asked to sign, by its nonce (16 bytes), and when (ms)."""

    nonce: bytes
    wallet: bytes
    asked_at: int


class SessionStore(Protocol):
    """Sessions, each of an API key or a wallet, and what wallets were asked to sign."""

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

    async def thin_out(self, tx: Transaction, holder: str | bytes, keep: int) -> None:
        """Keep only the latest sessions of a key, by its id, or of a wallet."""
        ...

    async def ask(self, tx: Transaction, row: ChallengeRow) -> None:
        """Keep what a wallet was asked to sign."""
        ...

    async def take_challenge(self, tx: Transaction, nonce: bytes) -> ChallengeRow | None:
        """Return what was asked with a nonce, and forget it: each is answered once."""
        ...

    async def forget_challenges(self, tx: Transaction, before: int) -> None:
        """Forget all that were asked earlier."""
        ...
