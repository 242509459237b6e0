"""What nodes put up, as the market keeps it."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from fallow.domain.facts import OfferMade
from fallow.domain.verification import Vote


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """A node's latest offer, the boot that made it, and the account that earns."""

    node: bytes
    account: bytes
    boot: int
    made: OfferMade


class Evidence(NamedTuple):
    """Why a node was found wrong: its lease, and all the votes on the item, its own among them."""

    lease: bytes
    node: bytes
    at: int
    code: str
    votes: tuple[Vote, ...]


class Refusal(NamedTuple):
    """A record that changed nothing, and why. It is kept: nobody is refused in silence."""

    node: bytes
    boot: int
    seq: int
    code: str
    at: int
