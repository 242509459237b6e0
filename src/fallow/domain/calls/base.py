"""What requests between the network's processes have in common."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of requests."""


class Person(Request, frozen=True, kw_only=True):
    """Who asks for something with an operator's key: its account, and the key's public part. It goes into the log."""

    account: Annotated[str, Meta(pattern="^0x[0-9a-f]{40}$", max_length=42)]
    key_id: Annotated[str, Meta(max_length=100)]


class AccountRef(Request, frozen=True, kw_only=True):
    """An account, and where a listing goes on: `after` is the last `id` or position seen."""

    account: str
    after: str = ""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 200


class NodeRef(Request, frozen=True, kw_only=True):
    """A node, in hex."""

    node: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class Page(Request, frozen=True, kw_only=True):
    """Part of a list: `after` is the id of the last entry seen."""

    after: str = ""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 200


AccountSignature = Annotated[str, Meta(pattern="^([0-9a-f]{130})?$", max_length=130)]
"""Of an account's own key over a text that wallets show, in hex; "" where the network signs for it."""
