"""Requests that let buyers reach their running work, by relays or at the node itself."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from fallow.domain.calls.base import Request
from fallow.domain.streams import DirectAddress, Purpose, Words

NODE_TAKEN = "relay.taken"
"""Published with a `RelayAt` when a node's session has begun at a relay: any that another one still holds is over."""

TUNNEL = "registry.tunnel"
STREAM = "market.stream"

STDIN_CHARS_MAX = 64 << 10


class StreamRef(Request, frozen=True, kw_only=True):
    """An account wants to reach the work of one of its items while it runs."""

    account: str
    job: str
    item: int
    purpose: Purpose


class Reach(Request, frozen=True, kw_only=True):
    """What a buyer wants to open streams for; with `direct` also where the node itself can be dialled, if it can."""

    purpose: Purpose
    direct: bool = False


class RunCommand(Request, frozen=True, kw_only=True):
    """A command for a running item's sandbox, and the text that it reads from stdin."""

    command: Words
    stdin: Annotated[str, Meta(max_length=STDIN_CHARS_MAX)] = ""


class StreamGrant(Request, frozen=True, kw_only=True, omit_defaults=True):
    """It may: `ticket` is a sealed `StreamTicket` for the lease that does the work now.

    Where the node can be dialled itself, `direct` says how; the network has tried it.
    """

    node: str
    lease: str
    ticket: bytes
    direct: DirectAddress | None = None


class Tunnel(Request, frozen=True, kw_only=True):
    """A gateway carries a client to the bus: where it comes from, and the nonce that the bus greeted it with."""

    nonce: Annotated[str, Meta(min_length=11, max_length=44)]
    address: Annotated[str, Meta(max_length=64)]


class RelayAt(Request, frozen=True, kw_only=True):
    """The relay at `url` holds the session of a node; `direct` is where it has reached the node itself, if it has."""

    node: str
    url: str
    direct: DirectAddress | None = None


def relay_of(node: str) -> str:
    """Subject that the relay answers on, with a `RelayAt`, which holds a node's session."""
    return f"relay.node.{node}"
