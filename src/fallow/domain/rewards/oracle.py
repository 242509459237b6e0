"""The price at which tokens are burned for credits, guarded: median, age, and a breaker for jumps.

Without a price that can be relied on nothing is burned or minted at a price; everything else goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from fallow.domain.errors import InvalidInput, Unavailable
from fallow.domain.money import dollars
from fallow.domain.rewards.split import PPM

TOKEN_UNITS = 10**18


class Quote(NamedTuple):
    """One source's word: micro-US-dollars for one token of 10^18 units, and how unsure it is of that."""

    source: str
    at_ms: int
    price: int
    doubt: int = 0


class Guard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a price holds: enough sources, none older than `age_max_ms`, not too far from the price before.

    The defaults are ten minutes, as Helium's treasury takes it, and a fifth.
    """

    sources_min: Annotated[int, Meta(ge=1, le=1000)] = 3
    age_max_ms: Annotated[int, Meta(ge=1, le=1 << 40)] = 600_000
    jump_max_ppm: Annotated[int, Meta(ge=0, le=1 << 40)] = 200_000

    def price(self, quotes: Sequence[Quote], now_ms: int, before: int | None) -> int:
        """The lower median of what fresh sources say, each less twice its doubt (as Helium's treasury burns).

        `before` is the last price that held, None on the first day. One source counts once, by its latest word.

        Raises:
            Unavailable: too few fresh sources (`oracle.stale`), or too far from the price before (`oracle.jump`).
        """
        latest: dict[str, Quote] = {}
        for quote in quotes:
            if quote.at_ms <= now_ms and quote.at_ms >= latest.get(quote.source, quote).at_ms:
                latest[quote.source] = quote
        prices = sorted(
            quote.price - 2 * quote.doubt for quote in latest.values() if now_ms - quote.at_ms <= self.age_max_ms
        )
        prices = [price for price in prices if price > 0]
        if len(prices) < self.sources_min:
            raise Unavailable(
                "oracle.stale", f"{len(prices)} sources have a fresh price, {self.sources_min} are needed."
            )
        median = prices[(len(prices) - 1) // 2]
        if before is not None and abs(median - before) * PPM > before * self.jump_max_ppm:
            raise Unavailable(
                "oracle.jump",
                f"The price of a token went from {dollars(before)} to {dollars(median)}: the operator has to look, and "
                "accepts it by `fallow price accept`.",
            )
        return median


class Oracle(msgspec.Struct, frozen=True):
    """What is known of a price: the latest word of each source, and the last price that held (0: none yet)."""

    quotes: dict[str, Quote] = {}
    held: int = 0

    def told(self, quote: Quote, guard: Guard, now_ms: int) -> Oracle:
        """Hear a source; where a price holds with its word, the next one is measured by it.

        Raises:
            InvalidInput: `price.old`: that source has said something newer.
        """
        last = self.quotes.get(quote.source)
        if last is not None and quote.at_ms <= last.at_ms:
            raise InvalidInput("price.old", "This source has said something newer.")
        heard = Oracle({**self.quotes, quote.source: quote}, self.held)
        try:
            return Oracle(heard.quotes, heard.price(guard, now_ms))
        except Unavailable:
            return heard

    def price(self, guard: Guard, now_ms: int) -> int:
        """The price that holds now.

        Raises:
            Unavailable: as `Guard.price`.
        """
        return guard.price(list(self.quotes.values()), now_ms, self.held or None)


def guard_of(sources: int, *, age_max_ms: int, jump_max_ppm: int) -> Guard:
    """How a price of so many sources is guarded: fewer than a third of them may lie, and as many may be silent.

    Then at least 2f+1 of n > 3f are heard, of whom f lie: in the middle stands an honest word, or one between two.
    """
    return Guard(sources_min=sources - (sources - 1) // 3, age_max_ms=age_max_ms, jump_max_ppm=jump_max_ppm)


def credits_for(burned: int, price: int) -> int:
    """Micro-US-dollars of credits for tokens that were burned, rounded down.

    Raises:
        InvalidInput: nothing burned, or no price.
    """
    if burned <= 0 or price <= 0:
        raise InvalidInput("rewards.burn", "Credits are for tokens that were burned, at a price.")
    return burned * price // TOKEN_UNITS


def tokens_for(microusd: int, price: int) -> int:
    """Token units that an amount of micro-US-dollars is worth, rounded down.

    Raises:
        InvalidInput: a negative amount, or no price.
    """
    if microusd < 0 or price <= 0:
        raise InvalidInput("rewards.price", "An amount is not negative, and a price is positive.")
    return microusd * TOKEN_UNITS // price
