"""Closing a client's connections to NATS, from the server's system account."""

from __future__ import annotations

import json

import msgspec

from fallow.adapters.nats.nkeys import Kind, encode_public
from fallow.domain.errors import Unavailable
from fallow.ports.bus import Bus

CONNECTIONS_SUBJECT = "$SYS.REQ.SERVER.PING.CONNZ"
KICK_SUBJECT = "$SYS.REQ.SERVER.*.KICK"
TIMEOUT_S = 5.0


class _Connection(msgspec.Struct):
    cid: int


class _Connections(msgspec.Struct):
    server_id: str
    connections: list[_Connection] = []


class _Answer(msgspec.Struct):
    data: _Connections


async def kick(system: Bus, public_key: bytes) -> None:
    """Close all connections of the key's holder. `system` is a connection in the server's system account.

    Of a cluster the server that answers first is asked; at the others the connection ends when it expires.
    (Subjects and forms: NATS server 2.10 and later, `server/events.go`.)

    Raises:
        Unavailable: the server does not answer, or not as it should (`bus.kick`).
    """
    asked = json.dumps({"auth": True, "user": encode_public(Kind.USER, public_key)}).encode()
    try:
        found = msgspec.json.decode(await system.request(CONNECTIONS_SUBJECT, asked, timeout_s=TIMEOUT_S), type=_Answer)
    except msgspec.MsgspecError as error:
        raise Unavailable("bus.kick", f"The bus does not list its connections as it should: {error}.") from error
    subject = KICK_SUBJECT.replace("*", found.data.server_id)
    for connection in found.data.connections:
        await system.request(subject, json.dumps({"cid": connection.cid}).encode(), timeout_s=TIMEOUT_S)
