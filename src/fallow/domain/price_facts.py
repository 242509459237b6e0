"""What a token is worth by the word of feeds, and the credits that burned ones gave, as records.

Prices are in micro-US-dollars for one token of 10^18 units.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from fallow.domain.chain_facts import Holder, Word
from fallow.domain.errors import InvalidInput
from fallow.domain.identity import Address, address
from fallow.domain.records import Body, Count

FEEDS_MAX = 31
PRICE_MAX = 10**9
"""A thousand dollars a token: all tokens there can ever be are then still worth less than 2^62 micro-US-dollars."""

Price = Annotated[int, Meta(ge=1, le=PRICE_MAX)]


class PriceReported(Body, frozen=True, kw_only=True):
    """A feed's word, which it signed (`price_text`): the price, and how unsure it is of that."""

    kind: ClassVar[str] = "price.reported"
    version: ClassVar[int] = 1
    feed: Holder
    price_microusd: Price
    doubt_microusd: Count
    at_ms: Count
    signature: Annotated[bytes, Meta(min_length=65, max_length=65)]


class PriceAccepted(Body, frozen=True, kw_only=True):
    """The operator has looked at a jump: the price goes on from here."""

    kind: ClassVar[str] = "price.accepted"
    version: ClassVar[int] = 1
    price_microusd: Price


class BurnCredited(Body, frozen=True, kw_only=True):
    """A burn (log number `place` of a transaction) gave its account credits, at a price that held."""

    kind: ClassVar[str] = "burn.credited"
    version: ClassVar[int] = 1
    transaction: Word
    place: Count
    account: Holder
    burned: Word
    price_microusd: Price
    credit_microusd: Count


PRICE_FACTS: tuple[type[Body], ...] = (PriceReported, PriceAccepted, BurnCredited)


def price_text(net: str, price_microusd: int, doubt_microusd: int, at_ms: int) -> str:
    """What a feed signs, as wallets show it."""
    return (
        f"Price of one token of the network {net}\n"
        f"micro-US-dollars: {price_microusd}\n"
        f"in doubt by: {doubt_microusd}\n"
        f"milliseconds since 1970: {at_ms}"
    )


def read_feeds(text: str) -> list[Address]:
    """Read addresses with commas between them; in ascending order.

    Raises:
        InvalidInput: one is malformed or there twice, or there are too many.
    """
    found = sorted(address(part.strip().lower()) for part in text.split(",") if part.strip())
    if len(set(found)) != len(found) or len(found) > FEEDS_MAX:
        raise InvalidInput("price.feeds", f"A network has up to {FEEDS_MAX} feeds of its price, and each once.")
    return found
