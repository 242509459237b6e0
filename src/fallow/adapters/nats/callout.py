"""Who may connect to NATS: the service that the server asks about every client that is not of the core.

The server tells us which key a client claims, which nonce it gave that client, and the client's signature. It has
NOT compared the three: in this mode that is left to us, and a service that forgets it lets anybody in as anybody.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import msgspec

from fallow.adapters.nats.nkeys import (
    KeySigner,
    Kind,
    check_signature,
    decode_public,
    decode_signature,
    read_token,
    sign_token,
)
from fallow.adapters.nats.permissions import RESPONSE_TTL_S, Permissions, Refusal
from fallow.domain.errors import FallowError, NotAllowed
from fallow.ports.bus import Bus, Message
from fallow.ports.clock import Clock

_log = logging.getLogger(__name__)

CALLOUT_SUBJECT = "$SYS.REQ.USER.AUTH"
CALLOUT_REPLY_ROOT = "$SYS._INBOX."
"""Where servers want the answer: the `reply_root` of the callout's connection."""

_AUDIENCE = "nats-authorization-request"
_QUEUE = "callout"
_AT_A_TIME = 32
# The server gives up on a request after a few seconds; older ones are replayed, or the clocks differ too much.
_CLOCK_SKEW_S = 30
_NANOSECONDS = 1_000_000_000
_EVERYTHING = [">"]


class ClientInfo(NamedTuple):
    """What the server says of a client. `name` is the client's own word."""

    host: str
    name: str
    transport: str
    """`nats`, `websocket` or `mqtt`."""
    server: str
    """The server's id."""
    nonce: str
    """What the server greeted this connection with, and no other."""


Authorize = Callable[[bytes, ClientInfo], Awaitable[Permissions | Refusal]]
"""Decides about the holder of a public key (32 bytes). The key's signature has been checked."""


class Callout(NamedTuple):
    """How requests are answered: the account's key that the server trusts, and the account clients come into."""

    issuer: KeySigner
    account: str
    authorize: Authorize
    clock: Clock

    async def answer(self, token: bytes) -> bytes:
        """The answer to one request of a server: a signed permission or a signed refusal.

        Empty if the request is not a server's: there is nobody to answer to, and a server takes it for a refusal.
        """
        try:
            request = self._read(token)
        except FallowError as error:
            _log.warning("callout: a request that no server made: %s", error)
            return b""
        decision = await self._decide(request)
        if isinstance(decision, Refusal):
            _log.info("callout: refused %s: %s", request.client_info.host, decision.reason)
            return self._sign_answer(request, {"error": decision.reason})
        return self._sign_answer(request, {"jwt": self._sign_permission(request, decision)})

    def _read(self, token: bytes) -> _Request:
        claims = read_token(token, _Claims, Kind.SERVER)
        now_s = self.clock.now_ms() // 1000
        if claims.aud != _AUDIENCE or claims.nats.server_id.id != claims.iss:
            raise NotAllowed("callout.request", "The request is not made out to us by the server that it names.")
        if claims.exp + _CLOCK_SKEW_S < now_s:
            raise NotAllowed("callout.expired", "The request is too old.")
        decode_public(Kind.USER, claims.nats.user_nkey)
        return claims.nats

    async def _decide(self, request: _Request) -> Permissions | Refusal:
        info = request.client_info
        try:
            public_key = prove_key(request.connect_opts.nkey, info.nonce, request.connect_opts.sig)
            return await self.authorize(
                public_key, ClientInfo(info.host, info.name, info.type, request.server_id.id, info.nonce)
            )
        except FallowError as error:
            return Refusal(error.code)

    def _sign_answer(self, request: _Request, content: dict[str, Any]) -> bytes:
        claims = {
            "iat": self.clock.now_ms() // 1000,
            "sub": request.user_nkey,
            "aud": request.server_id.id,
            "nats": {**content, "type": "authorization_response", "version": 2},
        }
        return sign_token(claims, Kind.ACCOUNT, self.issuer).encode()

    def _sign_permission(self, request: _Request, allowed: Permissions) -> str:
        now_s = self.clock.now_ms() // 1000
        expiry = {} if allowed.expires_s is None else {"exp": now_s + allowed.expires_s}
        claims = {
            "iat": now_s,
            "sub": request.user_nkey,
            "aud": self.account,
            "name": request.connect_opts.nkey,
            "nats": _user_claims(allowed),
            **expiry,
        }
        return sign_token(claims, Kind.ACCOUNT, self.issuer)


@asynccontextmanager
async def serve_callout(bus: Bus, callout: Callout) -> AsyncIterator[None]:
    """Answer the servers' requests while the context is open.

    `bus` is the callout's own connection, in the account that the server's configuration names for it.
    """

    async def handle(message: Message) -> bytes:
        return await callout.answer(message.data)

    async with bus.serve(CALLOUT_SUBJECT, handle, queue=_QUEUE, concurrency=_AT_A_TIME):
        yield


def prove_key(nkey: str, nonce: str, signature: str) -> bytes:
    """The public key of a client that has shown that it holds the secret to it.

    Raises:
        InvalidInput: no key, or key or signature are malformed.
        NotAllowed: the server's nonce is missing, or the key did not sign it (`callout.signature`).
    """
    public_key = decode_public(Kind.USER, nkey)
    if not nonce or not check_signature(public_key, nonce.encode(), decode_signature(signature)):
        raise NotAllowed("callout.signature", "The key did not sign this connection's nonce.")
    return public_key


def _user_claims(allowed: Permissions) -> dict[str, Any]:
    return {
        "pub": _subjects(allowed.publish),
        "sub": _subjects(allowed.subscribe),
        "resp": {"max": 1, "ttl": RESPONSE_TTL_S * _NANOSECONDS},
        "subs": -1,
        "data": -1,
        "payload": -1,
        "allowed_connection_types": ["STANDARD", "WEBSOCKET"],
        "type": "user",
        "version": 2,
    }


def _subjects(subjects: tuple[str, ...]) -> dict[str, list[str]]:
    # The server takes an empty list for "everything".
    return {"allow": list(subjects)} if subjects else {"deny": _EVERYTHING}


class _ServerId(msgspec.Struct):
    id: str


class _ClientInfo(msgspec.Struct):
    host: str = ""
    name: str = ""
    type: str = ""
    nonce: str = ""


class _ConnectOptions(msgspec.Struct):
    nkey: str = ""
    sig: str = ""


class _Request(msgspec.Struct):
    server_id: _ServerId
    user_nkey: str
    client_info: _ClientInfo
    connect_opts: _ConnectOptions


class _Claims(msgspec.Struct):
    iss: str
    aud: str
    exp: int
    nats: _Request
