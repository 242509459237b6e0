"""What nodes put up, as the market keeps it."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from fallow.domain.facts import OfferMade
from fallow.domain.resources import Terms
from fallow.domain.verification import Vote


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """A node's latest offer, the boot that made it, and the account that earns.

    `spot` are its terms for spot leases; None: it takes none. `cell` is where it says that it is; "" where it does not.
    """

    node: bytes
    account: bytes
    boot: int
    made: OfferMade
    spot: Terms | None = None
    cell: str = ""


class Evidence(NamedTuple):
    """Why a node was found wrong: its lease, and all the votes on the item, its own among them."""

    lease: bytes
    node: bytes
    at: int
    code: str
    votes: tuple[Vote, ...]


REFUSALS_A_NODE_MAX = 1_000
REFUSALS_KEPT_MS = 30 * 86_400_000
"""Refusals are kept for a month, the latest thousand of each node: the records themselves are kept for ever."""


class Refusal(NamedTuple):
    """A record that changed nothing, and why. It is kept: nobody is refused in silence."""

    node: bytes
    boot: int
    seq: int
    code: str
    at: int
