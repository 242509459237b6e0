"""Whom a browser speaks for, by the cookie of its session, and that it was this console's page that asked (ADR 49)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Mapping
from typing import Any

from litestar.connection import ASGIConnection

from fallow.domain import calls
from fallow.domain.errors import NotAllowed
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.remembered import Remembered
from fallow.ports.rpc import Empty, call

CSRF_HEADER = "Fallow-CSRF"
CACHED_SESSIONS_MAX = 4096
SECRET_CHARACTERS_MAX = 100
_SAFE = frozenset({"GET", "HEAD"})
_CSRF_DOMAIN = b"fallow csrf 1"

Connection = ASGIConnection[Any, Any, Any, Any]


class Sessions:
    """Checks sessions with the registry. Remembers valid ones for a moment, by their hash and never themselves."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._known = Remembered[bytes, calls.sessions.SessionInfo](clock, CACHED_SESSIONS_MAX)

    async def open(self, key: str) -> calls.sessions.SessionInfo:
        """Open a session with an API key; NotAllowed as the registry says it."""
        return await call(
            self._bus, calls.sessions.OPEN_SESSION, calls.keys.CheckKey(key=key), calls.sessions.SessionInfo
        )

    async def challenge(self, account: str) -> calls.sessions.Challenged:
        """Ask a wallet to sign a text."""
        return await call(
            self._bus, calls.sessions.CHALLENGE, calls.sessions.Challenge(account=account), calls.sessions.Challenged
        )

    async def open_by_wallet(self, request: calls.sessions.OpenByWallet) -> calls.sessions.SessionInfo:
        """Open a session with a wallet's signature; NotAllowed and InvalidInput as the registry says it."""
        return await call(self._bus, calls.sessions.OPEN_BY_WALLET, request, calls.sessions.SessionInfo)

    async def check(self, secret: str, *, used: bool = True) -> calls.sessions.SessionInfo:
        """Return whose session it is; with `used` its holder does something just now.

        What is answered otherwise is not remembered: else the registry might never hear of who does something.

        Raises:
            NotAllowed: `auth.session` when it has ended, `account.banned`.
            Unavailable: the registry does not answer.
        """
        digest = hashlib.sha256(secret.encode()).digest()
        known = self._known.recall(digest)
        if known is not None and self._clock.now_ms() >= known.ends_at:
            self._known.drop(digest)
            known = None
        asked = calls.sessions.SessionRef(secret=secret, used=used)

        def ask() -> Awaitable[calls.sessions.SessionInfo]:
            return call(self._bus, calls.sessions.CHECK_SESSION, asked, calls.sessions.SessionInfo)

        if not used:
            return known or await ask()
        return await self._known.ask(digest, ask)

    async def end(self, secret: str) -> None:
        """End a session: here at once, in other gateways within seconds."""
        await call(self._bus, calls.sessions.END_SESSION, calls.sessions.SessionRef(secret=secret), Empty)
        self._known.drop(hashlib.sha256(secret.encode()).digest())

    def forget(self, key_id: str) -> None:
        """Drop the sessions of a key that was revoked through this process."""
        self._known.forget(lambda info: info.key.key_id == key_id)


def cookie_name(net: str, scheme: str) -> str:
    """Name the cookie: networks that share a host stay apart, and under TLS no other port of it can set one."""
    return f"{'__Host-' if scheme == 'https' else ''}fallow-{net}"


def set_cookie(name: str, secret: str, life_s: int) -> str:
    """Return the header that gives a browser a session's secret, or with an empty one takes it back."""
    secure = "; Secure" if name.startswith("__Host-") else ""
    return f"{name}={secret}; Path=/; Max-Age={life_s}; HttpOnly; SameSite=Strict{secure}"


def secret_of(connection: Connection, net: str) -> str:
    """Return the secret in a request's cookie; "" where it has none that could be one."""
    secret = connection.cookies.get(cookie_name(net, connection.scope["scheme"]), "")
    return secret if secret.isascii() and len(secret) <= SECRET_CHARACTERS_MAX else ""


def csrf_of(secret: str) -> str:
    """Return the token that belongs to a session: its own page is told it, and another's page cannot compute it."""
    return hmac.new(secret.encode(), _CSRF_DOMAIN, hashlib.sha256).hexdigest()


def check_origin(connection: Connection) -> None:
    """Refuse what a page of somebody else has a browser send; programs that are no browsers say nothing of this.

    Raises:
        NotAllowed: `csrf.origin`.
    """
    if not _from_here(connection.headers, connection.scope["scheme"]):
        raise NotAllowed("csrf.origin", "Another page has sent this request.", "Open the console by its own address.")


def check_csrf(connection: Connection, secret: str) -> None:
    """Let pass what a session's own page has sent; what only reads needs no token.

    Raises:
        NotAllowed: `csrf.origin`, `csrf.token`.
    """
    check_origin(connection)
    if connection.scope.get("method") in _SAFE:
        return
    told = connection.headers.get(CSRF_HEADER, "")
    if not hmac.compare_digest(told.encode(), csrf_of(secret).encode()) or not _says_whence(connection.headers):
        raise NotAllowed("csrf.token", "This request does not come from the page that signed in.", "Load it again.")


def _says_whence(headers: Mapping[str, str]) -> bool:
    """Whether a request names its origin: every browser does with what changes something."""
    return "Sec-Fetch-Site" in headers or "Origin" in headers


def _from_here(headers: Mapping[str, str], scheme: str) -> bool:
    """Whether a browser says that a page from here has sent a request; `none` is an address that a person typed.

    No page can set either header. Where proxies are in between, the first one holds whatever they call this host.
    """
    site = headers.get("Sec-Fetch-Site")
    if site is not None:
        return site in {"same-origin", "none"}
    origin = headers.get("Origin")
    return origin is None or origin == f"{scheme}://{headers.get('Host', '')}"
