"""Guards: they run before anything else of a request is read, and leave in `request.auth` who it speaks for."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec
from litestar import Request
from litestar.handlers import BaseRouteHandler

from fallow.domain.calls.base import Person
from fallow.domain.calls.keys import KeyInfo
from fallow.domain.errors import NotAllowed, Unavailable
from fallow.domain.grants import is_credential
from fallow.domain.identity import address
from fallow.http.gateway import Gateway
from fallow.http.limits import address_of
from fallow.http.sessions import Connection, check_csrf, check_origin, secret_of

TICKET_HEADER = "Fallow-Ticket"
PROOF_HEADER = "Fallow-Proof"


class BlobRights(msgspec.Struct, frozen=True):
    """Whose blobs a request may touch. A buyer may read all of his (`reads`, `lease` and `node` are None)."""

    owner: str
    write_bytes_max: int
    reads: frozenset[str] | None = None
    lease: bytes | None = None
    node: bytes | None = None


class GrantShown(NamedTuple):
    """A grant that a request came with, and that nobody has checked yet."""

    grant: str

    def __repr__(self) -> str:
        """Leave it out."""
        return "GrantShown()"


def grant_digest(grant: str) -> bytes:
    """What a grant is remembered by."""
    return hashlib.sha256(grant.encode()).digest()


def anyone(connection: Connection, _: BaseRouteHandler) -> None:
    """Let everybody in, but nobody too often."""
    _gateway(connection).addresses.take(address_of(connection))


def anyone_here(connection: Connection, handler: BaseRouteHandler) -> None:
    """Let everybody in whose browser does not do as another's page tells it, to sign in or out."""
    anyone(connection, handler)
    check_origin(connection)


async def anyone_or_member(connection: Connection, handler: BaseRouteHandler) -> None:
    """Let everybody in; a key that comes along has to be valid, and says that its holder is no stranger.

    Whose session has ended is a stranger: pages for everybody go on.
    """
    if "Authorization" in connection.headers:
        connection.scope["auth"] = await _key(connection)
    elif _secret(connection):
        with suppress(NotAllowed):
            connection.scope["auth"] = await _key(connection)
    else:
        anyone(connection, handler)


async def buyer(connection: Connection, _: BaseRouteHandler) -> None:
    """Let in who may buy, by an API key or by a session."""
    connection.scope["auth"] = await _key(connection, "buy")


async def buyer_or_holder(connection: Connection, handler: BaseRouteHandler) -> None:
    """Let in who may buy, and whoever shows a grant: what that allows is for the side to say that is asked.

    Grants that were good a moment ago count by the API key that they stand on, others by the address.
    """
    shown = connection.headers.get("Authorization", "").partition(" ")[2].strip()
    if not is_credential(shown):
        await buyer(connection, handler)
        return
    gateway = _gateway(connection)
    key_id = gateway.grants.recall(grant_digest(shown))
    if key_id is None:
        gateway.addresses.take(address_of(connection))
    else:
        gateway.senders.take(f"grants of {key_id}")
    connection.scope["auth"] = GrantShown(shown)


async def withdrawer(connection: Connection, _: BaseRouteHandler) -> None:
    """Let in keys that may say where an account's money goes, and how much: one that buys should not be able to."""
    connection.scope["auth"] = await _key(connection, "withdraw")


async def provider(connection: Connection, _: BaseRouteHandler) -> None:
    """Let in whoever provides machines: he may see what is his, and with `withdraw` say where it goes."""
    connection.scope["auth"] = await _key(connection, "provide", "withdraw")


async def holder(connection: Connection, _: BaseRouteHandler) -> None:
    """Let in whoever buys, or earns: both may see what is their account's."""
    connection.scope["auth"] = await _key(connection, "buy", "provide", "withdraw")


async def operator(connection: Connection, _: BaseRouteHandler) -> None:
    """Let in keys that may operate the network."""
    connection.scope["auth"] = await _key(connection, "operate")


async def viewer(connection: Connection, _: BaseRouteHandler) -> None:
    """Let in who may see what operators see; for routes that change nothing."""
    connection.scope["auth"] = await _key(connection, "operate", "view")


async def blob_rights(connection: Connection, _: BaseRouteHandler) -> None:
    """Let in buyers, and nodes with a ticket for one of their leases."""
    if TICKET_HEADER in connection.headers:
        connection.scope["auth"] = await _ticket_rights(connection)
        return
    info = await _key(connection, "buy")
    blob_bytes_max = _gateway(connection).limits.blob_bytes_max
    connection.scope["auth"] = BlobRights(address(info.account).hex(), blob_bytes_max)


async def until_refused(connection: Connection) -> None:
    """Wait until a request would be let in no more: its key was revoked, its session ended, or its account is banned.

    For answers that last, which end with it. To have one open is no use of a session.

    Raises:
        NotAllowed: as the guards.
    """
    gateway = _gateway(connection)
    while True:
        await gateway.clock.sleep(gateway.limits.heartbeat_s)
        with suppress(Unavailable):
            await _shown(connection, used=False)


def provide_account(request: Request[Any, KeyInfo, Any]) -> str:
    """Give a handler the account that its request speaks for."""
    return request.auth.account


def provide_person(request: Request[Any, KeyInfo, Any]) -> Person:
    """Give a handler who asks, for the log of what operators do."""
    return Person(account=request.auth.account, key_id=request.auth.key_id)


async def _ticket_rights(connection: Connection) -> BlobRights:
    gateway = _gateway(connection)
    headers = connection.headers
    try:
        ticket = gateway.tickets.check(headers[TICKET_HEADER], headers.get(PROOF_HEADER, ""))
    except NotAllowed:
        gateway.addresses.take(address_of(connection))
        raise
    gateway.senders.take(f"node {ticket.node.hex()}")
    await gateway.nodes.check(ticket.node)
    reads = frozenset(sha256.hex() for sha256 in ticket.reads)
    return BlobRights(ticket.owner.hex(), ticket.write_bytes_max, reads, ticket.lease, ticket.node)


async def _key(connection: Connection, *scopes: str) -> KeyInfo:
    """Return what a request may; it has one of these scopes, if there are any."""
    gateway = _gateway(connection)
    try:
        info = await _shown(connection)
    except NotAllowed:
        # Who tries keys out is slowed down by his address; whose key is valid is not, whoever else shares it.
        gateway.addresses.take(address_of(connection))
        raise
    gateway.senders.take(f"key {info.key_id}" if info.key_id else f"account {info.account}")
    if scopes and not set(scopes) & set(info.scopes):
        hint = f"Use a key with the scope {' or '.join(map(repr, scopes))}."
        raise NotAllowed("scope.missing", f"This API key may not {' or '.join(scopes)}.", hint)
    return info


async def _shown(connection: Connection, *, used: bool = True) -> KeyInfo:
    """Return what a request may by its API key, or by the session of a browser; the key counts where both come."""
    secret = "" if "Authorization" in connection.headers else _secret(connection)
    if not secret:
        return await _gateway(connection).keys.check(connection.headers.get("Authorization"))
    check_csrf(connection, secret)
    return (await _gateway(connection).sessions.check(secret, used=used)).key


def _secret(connection: Connection) -> str:
    return secret_of(connection, _gateway(connection).network.net)


def _gateway(connection: Connection) -> Gateway:
    gateway: Gateway = connection.app.state.gateway
    return gateway
