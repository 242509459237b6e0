"""Requests about the network's token: its price, its stake, its contracts."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from fallow.domain.calls.base import Person, Request
from fallow.domain.price_facts import PRICE_MAX, Price
from fallow.domain.stake_facts import TAKE_ALL_PPM

REPORT_PRICE = "settle.report_price"
ACCEPT_PRICE = "settle.accept_price"
PRICE = "settle.price"
SET_TAKE = "settle.set_take"
GOVERNANCE = "settle.governance"
GOVERNED = "settle.governed"


class ReportPrice(Request, frozen=True, kw_only=True):
    """What a feed says one token is worth, in micro-US-dollars; it signed `price_text` as wallets do."""

    price_microusd: Price
    doubt_microusd: Annotated[int, Meta(ge=0, le=PRICE_MAX)] = 0
    at_ms: Annotated[int, Meta(ge=0, le=2**53)]
    signature: Annotated[str, Meta(pattern="^0x[0-9a-f]{130}$", max_length=132)]


class AcceptPrice(Request, frozen=True, kw_only=True):
    """Let the price go on from here after a jump."""

    price_microusd: Price


class HoldPrice(AcceptPrice, frozen=True, kw_only=True):
    """Let it go on so for a person."""

    by: Person | None = None


class SetTake(Request, frozen=True, kw_only=True):
    """What an operator keeps of what others' stake earns, in millionths; he signed `take_text` as wallets do."""

    account: str
    take_ppm: Annotated[int, Meta(ge=0, le=TAKE_ALL_PPM)]
    at_ms: Annotated[int, Meta(ge=0, le=2**53)]
    signature: Annotated[str, Meta(pattern="^0x[0-9a-f]{130}$", max_length=132)]
