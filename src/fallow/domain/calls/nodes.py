"""Requests from and about nodes: joining, signs of life, records."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from fallow.domain.calls.base import Request
from fallow.domain.orders import Label
from fallow.domain.records import Opening

JOIN = "registry.join"
NODES = "registry.nodes"
OWN_NODES = "market.own_nodes"
MAY_CONNECT = "registry.may_connect"

OBSERVED = "registry.observed"
"""Published with an `Observed` when a node connects from another network than before."""

INGESTED = "log.written"
"""Published, without content, after new batches were written: whoever reads the log may look now.

It does not begin with `ingest`, where each word is taken for a node's batch.
"""


class Join(Request, frozen=True, kw_only=True):
    """A machine asks to become a node.

    `proof` is the node key's signature (hex) over `join_message`. `account` is the code by which an account that keeps
    its own key takes the node (`fallow.domain.bindings`); left empty the node gets a custodial account.
    """

    token: Annotated[str, Meta(max_length=200)]
    node: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    proof: Annotated[str, Meta(pattern="^[0-9a-f]{128}$")]
    label: Label = ""
    account: Annotated[str, Meta(pattern=r"^(fa_[A-Za-z0-9_-]{124})?$(?!\n)")] = ""


class Joined(Request, frozen=True, kw_only=True):
    """The node belongs to `account` from now on; `account_signature` (hex) is the account's half of the binding."""

    net: str
    account: str
    account_signature: str


def join_message(token: str, node: str, account: str = "") -> bytes:
    """What a node key signs to show that it is present when its machine joins, and which account's code it follows."""
    follows = f"\0{account}" if account else ""
    return f"fallow/join/1\0{token}\0{node}{follows}".encode()


class Observed(Request, frozen=True, kw_only=True):
    """A node (hex) connected from this network (`fallow.domain.networks`)."""

    node: str
    network: str


class Beat(Request, frozen=True, kw_only=True):
    """A node's sign of life: its boot number and the leases that it works on. Not a record, never archived."""

    node: str
    boot: int
    leases: list[str]


def beats(node: str) -> str:
    """Subject of a node's `Beat`s."""
    return f"market.node.{node}.beat"


def standing(node: str) -> str:
    """Subject on which a node asks how the market sees it; the answer is a `StandingView`."""
    return f"market.node.{node}.standing"


class Deliver(Request, frozen=True, kw_only=True):
    """A node hands in one signed batch. `openings` are those of its sealed fields, by index in the batch as text."""

    batch: bytes
    openings: dict[str, dict[str, Opening]] = {}


class Delivered(Request, frozen=True, kw_only=True):
    """The batch is durably stored: the network's sealed `Promise`. The same batch again gets the same answer."""

    promise: bytes


def ingest(node: str) -> str:
    """Subject of a node's signed batches."""
    return f"ingest.{node}"
