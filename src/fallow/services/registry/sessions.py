"""Who is signed in at the console: a secret of its own stands for the API key that a person showed once (ADR 49)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from fallow.domain import calls
from fallow.domain.errors import NotAllowed
from fallow.domain.identity import address_text
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.database import Database
from fallow.ports.registry_store import KeyRow, RegistryStore
from fallow.ports.rpc import Empty, serve
from fallow.ports.session_store import SessionRow, SessionStore
from fallow.services.registry.secrets_format import SECRET_BYTES, digest, new_session

QUEUE = "registry"
SESSION_MS = 12 * 3_600_000
IDLE_MS = 2 * 3_600_000
TOUCH_MS = 60_000
"""That a session is used is written down so often at most: it may end so much too early."""

PER_KEY_MAX = 32
"""With one more the oldest session of a key ends."""


class Sessions:
    """Answers `registry.sessions.*`. Several copies may run: all state is in the stores.

    `check_key` says whose key it is, and raises NotAllowed where it is nobody's (`Registry.check_key`).
    """

    def __init__(
        self,
        *,
        check_key: Callable[[calls.CheckKey], Awaitable[calls.KeyInfo]],
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
        async with AsyncExitStack() as stack:
            for context in (
                serve(self._bus, calls.OPEN_SESSION, calls.CheckKey, self.open, queue=QUEUE),
                serve(self._bus, calls.CHECK_SESSION, calls.SessionRef, self.check, queue=QUEUE),
                serve(self._bus, calls.END_SESSION, calls.SessionRef, self.end, queue=QUEUE),
            ):
                await stack.enter_async_context(context)
            yield

    async def open(self, request: calls.CheckKey) -> calls.SessionInfo:
        """Open a session for whoever has a key; raises what `check_key` raises."""
        key = await self._check_key(request)
        secret, now = new_session(self._random_bytes(SECRET_BYTES)), self._clock.now_ms()
        async with self._database.transaction() as tx:
            await self._store.forget(tx, now - SESSION_MS)
            await self._store.add(tx, SessionRow(digest(secret), key.key_id, now, now))
            await self._store.thin_out(tx, key.key_id, PER_KEY_MAX)
        return calls.SessionInfo(key=key, ends_at=now + SESSION_MS, secret=secret)

    async def check(self, request: calls.SessionRef) -> calls.SessionInfo:
        """Say whose session it is.

        Raises:
            NotAllowed: it has ended, its key was revoked, or there never was one; the answer does not tell which
                (`auth.session`). Or its account is banned (`account.banned`).
        """
        secret, now = digest(request.secret), self._clock.now_ms()
        async with self._database.transaction() as tx:
            row = await self._store.session(tx, secret)
            key = await self._registry.key(tx, row.key_id) if row else None
            reason = await self._registry.ban_reason(tx, key.account) if key else ""
            if row is None or key is None or not _holds(row, key, now):
                raise NotAllowed("auth.session", "This session has ended.", "Sign in again.")
            if reason:
                raise NotAllowed("account.banned", f"This account is banned: {reason}.", "Ask the network's operator.")
            if now - row.seen_at >= TOUCH_MS:
                await self._store.touch(tx, secret, now)
        info = calls.KeyInfo(key_id=key.key_id, account=address_text(key.account), scopes=list(key.scopes))
        return calls.SessionInfo(key=info, ends_at=row.opened_at + SESSION_MS)

    async def end(self, request: calls.SessionRef) -> Empty:
        """End a session; one that has ended stays so."""
        async with self._database.transaction() as tx:
            await self._store.end(tx, digest(request.secret))
        return {}


def _holds(row: SessionRow, key: KeyRow, now: int) -> bool:
    """Whether a session has not ended: by its age, by not being used, or with its key."""
    return key.revoked_at is None and now < row.opened_at + SESSION_MS and now < row.seen_at + IDLE_MS
