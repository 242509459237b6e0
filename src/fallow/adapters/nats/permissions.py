"""Which subjects a node may use. One page, so that it can be read and judged as a whole.

`N` is the node's id: its Ed25519 public key as 64 hexadecimal digits.

| subject | who sends | who listens |
| --- | --- | --- |
| `node.N.>` | the network | node N |
| `ingest.N` | node N | ingest |
| `market.node.N.>` | node N | market |
| `vertical.node.N.>` | node N | the network's side of a vertical |
| `_INBOX_<nkey>.>` | whoever answers | the holder of that key |
"""

from __future__ import annotations

from typing import NamedTuple

from fallow.adapters.nats.nkeys import KEY_BYTES, Kind, encode_public

INBOX_ROOT = "_INBOX_"
"""Every inbox begins so, and nothing else does: a reply never goes to any other subject."""

RESPONSE_TTL_S = 60
"""Seconds that a node has to answer a request; the answer's subject is closed to it afterwards."""


class Permissions(NamedTuple):
    """What a connection may do: only these subjects, and one answer to each request it receives."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    expires_s: int | None = None
    """Seconds after which the server closes the connection, so that the client is checked again; None: never."""


class Refusal(NamedTuple):
    """Why a client may not connect. It goes to the server's log; the client learns only that it was refused."""

    reason: str


def inbox_prefix(public_key: bytes) -> str:
    """Where the replies to this key go.

    It holds the whole key: with the first 16 characters alone, a key with the same ones could be searched for.
    """
    return INBOX_ROOT + encode_public(Kind.USER, public_key)


def node_permissions(public_key: bytes, *, expires_s: int | None = None) -> Permissions:
    """What the node with this key may do: speak for itself, hear what is for it, and nothing else.

    Raises:
        ValueError: the key has not 32 bytes.
    """
    if len(public_key) != KEY_BYTES:
        raise ValueError(f"a public key has {KEY_BYTES} bytes")
    node = public_key.hex()
    return Permissions(
        publish=(f"ingest.{node}", f"market.node.{node}.>", f"vertical.node.{node}.>"),
        subscribe=(f"node.{node}.>", f"{inbox_prefix(public_key)}.>"),
        expires_s=expires_s,
    )
