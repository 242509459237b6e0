"""Who is signed in at the console: a secret stands for the key or the wallet that a person showed (ADR 49)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from fallow.domain import calls
from fallow.domain.api_keys import digest
from fallow.domain.errors import NotAllowed
from fallow.domain.identity import address, address_text
from fallow.domain.wallets import signer_of
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.database import Database, Transaction
from fallow.ports.registry_store import RegistryStore
from fallow.ports.rpc import Empty, serve
from fallow.ports.session_store import ChallengeRow, SessionRow, SessionStore
from fallow.ports.sign_in_text import VALID_MS, SignInText
from fallow.services.registry.secrets_format import SECRET_BYTES, new_session

QUEUE = "registry"
SESSION_MS = 12 * 3_600_000
IDLE_MS = 2 * 3_600_000
TOUCH_MS = 60_000
"""That a session is used is written down so often at most: it may end so much too early."""

PER_HOLDER_MAX = 32
"""With one more the oldest session of a key or a wallet ends."""

NONCE_BYTES = 16
WALLET_SCOPES = ("buy", "withdraw")
"""What the holder of an account's own key may: all but to run the network."""


class Sessions:
    """Answers `registry.sessions.*`. Several copies may run: all state is in the stores.

    `check_key` says whose key it is, and raises NotAllowed where it is nobody's (`Registry.check_key`).
    """

    def __init__(
        self,
        *,
        check_key: Callable[[calls.keys.CheckKey], Awaitable[calls.keys.KeyInfo]],
        random_bytes: Callable[[int], bytes],
        bus: Bus,
        clock: Clock,
        database: Database,
        registry: RegistryStore,
        store: SessionStore,
    ) -> None:
        self._check_key = check_key
        self._random_bytes = random_bytes
        self._bus = bus
        self._clock = clock
        self._database = database
        self._registry = registry
        self._store = store

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve while the context is open."""
        async with (
            serve(self._bus, calls.sessions.OPEN_SESSION, calls.keys.CheckKey, self.open, queue=QUEUE),
            serve(self._bus, calls.sessions.CHALLENGE, calls.sessions.Challenge, self.challenge, queue=QUEUE),
            serve(
                self._bus,
                calls.sessions.OPEN_BY_WALLET,
                calls.sessions.OpenByWallet,
                self.open_by_wallet,
                queue=QUEUE,
            ),
            serve(self._bus, calls.sessions.CHECK_SESSION, calls.sessions.SessionRef, self.check, queue=QUEUE),
            serve(self._bus, calls.sessions.END_SESSION, calls.sessions.SessionRef, self.end, queue=QUEUE),
        ):
            yield

    async def open(self, request: calls.keys.CheckKey) -> calls.sessions.SessionInfo:
        """Open a session for whoever has a key; raises what `check_key` raises."""
        key = await self._check_key(request)
        async with self._database.transaction() as tx:
            return await self._open(tx, key, key.key_id)

    async def challenge(self, request: calls.sessions.Challenge) -> calls.sessions.Challenged:
        """Ask a wallet to sign a text, which is to be signed within `VALID_MS`."""
        nonce, now = self._random_bytes(NONCE_BYTES), self._clock.now_ms()
        async with self._database.transaction() as tx:
            await self._store.forget_challenges(tx, now - VALID_MS)
            await self._store.ask(tx, ChallengeRow(nonce, address(request.account), now))
        return calls.sessions.Challenged(nonce=nonce.hex(), asked_at=now)

    async def open_by_wallet(self, request: calls.sessions.OpenByWallet) -> calls.sessions.SessionInfo:
        """Open a session for the account whose key has signed what it was asked to. A text counts once.

        Raises:
            NotAllowed: nothing was asked with this nonce, or too long ago, or of another account
                (`auth.challenge`); another key has signed, or another text (`auth.wallet`); `account.banned`.
            InvalidInput: this is no signature (`account.signature`).
        """
        now, wallet = self._clock.now_ms(), address(request.account)
        async with self._database.transaction() as tx:
            asked = await self._store.take_challenge(tx, bytes.fromhex(request.nonce))
        if asked is None or asked.wallet != wallet or now >= asked.asked_at + VALID_MS:
            raise NotAllowed("auth.challenge", "This text is not to be signed any more.", "Sign in again.")
        text = SignInText(
            request.scheme, request.domain, wallet, request.chain_id, request.nonce, asked_at=asked.asked_at
        )
        if signer_of(str(text), bytes.fromhex(request.signature[2:])) != wallet:
            raise NotAllowed("auth.wallet", "Another account has signed, or another text.", "Sign in again.")
        async with self._database.transaction() as tx:
            await self._refuse_banned(tx, wallet)
            if not await self._registry.has_account(tx, wallet):
                await self._registry.add_account(tx, wallet, None, now)
            return await self._open(tx, _of_wallet(wallet), wallet)

    async def check(self, request: calls.sessions.SessionRef) -> calls.sessions.SessionInfo:
        """Say whose session it is.

        Raises:
            NotAllowed: it has ended, its key was revoked, or there never was one; the answer does not tell which
                (`auth.session`). Or its account is banned (`account.banned`).
        """
        secret, now = digest(request.secret), self._clock.now_ms()
        async with self._database.transaction() as tx:
            row = await self._store.session(tx, secret)
            info = await self._holder(tx, row) if row else None
            if row is None or info is None or now >= min(row.opened_at + SESSION_MS, row.seen_at + IDLE_MS):
                raise NotAllowed("auth.session", "This session has ended.", "Sign in again.")
            await self._refuse_banned(tx, address(info.account))
            if request.used and now - row.seen_at >= TOUCH_MS:
                await self._store.touch(tx, secret, now)
        return calls.sessions.SessionInfo(key=info, ends_at=row.opened_at + SESSION_MS)

    async def end(self, request: calls.sessions.SessionRef) -> Empty:
        """End a session; one that has ended stays so."""
        async with self._database.transaction() as tx:
            await self._store.end(tx, digest(request.secret))
        return {}

    async def _open(self, tx: Transaction, info: calls.keys.KeyInfo, holder: str | bytes) -> calls.sessions.SessionInfo:
        secret, now = new_session(self._random_bytes(SECRET_BYTES)), self._clock.now_ms()
        key_id, wallet = (holder, None) if isinstance(holder, str) else (None, holder)
        await self._store.forget(tx, now - SESSION_MS)
        await self._store.add(tx, SessionRow(digest(secret), key_id, now, now, wallet))
        await self._store.thin_out(tx, holder, PER_HOLDER_MAX)
        return calls.sessions.SessionInfo(key=info, ends_at=now + SESSION_MS, secret=secret)

    async def _holder(self, tx: Transaction, row: SessionRow) -> calls.keys.KeyInfo | None:
        """Whom a session speaks for; None: its key was revoked."""
        if row.wallet is not None:
            return _of_wallet(row.wallet)
        key = await self._registry.key(tx, row.key_id) if row.key_id else None
        if key is None or key.revoked_at is not None:
            return None
        return calls.keys.KeyInfo(key_id=key.key_id, account=address_text(key.account), scopes=list(key.scopes))

    async def _refuse_banned(self, tx: Transaction, account: bytes) -> None:
        if reason := await self._registry.ban_reason(tx, account):
            raise NotAllowed("account.banned", f"This account is banned: {reason}.", "Ask the network's operator.")


def _of_wallet(wallet: bytes) -> calls.keys.KeyInfo:
    return calls.keys.KeyInfo(key_id="", account=address_text(wallet), scopes=list(WALLET_SCOPES))
