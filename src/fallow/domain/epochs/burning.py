"""Burned credits in the fold: whether each was given for a burn that is on record, at the price that held. Pure.

What feeds said, what the operator accepted after a jump, burns and credits are gone through in the order of ingest, as
settle did. So the same guard comes to the same price at each moment, and a credit that follows from none of it shows in
the statement, which every validator computes again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from fallow.domain.chain_facts import ChainBurned
from fallow.domain.epochs.state import Row, amount
from fallow.domain.errors import FallowError
from fallow.domain.identity import address_text
from fallow.domain.price_facts import BurnCredited, PriceAccepted, PriceReported
from fallow.domain.records import Body
from fallow.domain.rewards.oracle import Guard, Oracle, Quote, credits_for

BURNS: Final = "core.burns"
QUOTES: Final = "core.quotes"

Happened = tuple[int, Body]
"""A record of these kinds, with its time."""


class Burns(NamedTuple):
    """`waiting` for a credit: account and units, by transaction and place. `quotes` are the feeds' words of the epoch.

    Micro-US-dollars of credits: `credited` for burns, and `unsound` ones, which nobody can see a reason for.
    """

    waiting: Mapping[bytes, tuple[bytes, int]]
    oracle: Oracle
    quotes: Sequence[Quote] = ()
    credited: int = 0
    unsound: int = 0

    def rows(self) -> dict[str, list[Row]]:
        """What the next epoch begins with."""
        waiting: list[Row] = [[key, account, amount(units)] for key, (account, units) in self.waiting.items()]
        said: list[Row] = [[feed, *quote[1:]] for feed, quote in self.oracle.quotes.items()]
        held: list[Row] = [["", self.oracle.held, 0, 0]] if self.oracle.held else []
        return {BURNS: waiting, QUOTES: held + said}


def replay(
    happened: Sequence[Happened], carried: Mapping[str, Sequence[Row]], feeds: Collection[bytes], guard: Guard
) -> Burns:
    """Go through an epoch's records of the price and of burns, after what was carried into it."""
    known = {address_text(feed) for feed in feeds}
    burns = _read(carried, known)
    waiting, oracle, quotes, credited, unsound = dict(burns.waiting), burns.oracle, list[Quote](), 0, 0
    for at, body in happened:
        if isinstance(body, PriceReported):
            quote = Quote(address_text(body.feed), body.at_ms, body.price_microusd, body.doubt_microusd)
            if quote.source in known:
                quotes.append(quote)
                oracle = _told(oracle, quote, guard, at)
        elif isinstance(body, PriceAccepted):
            oracle = Oracle(oracle.quotes, body.price_microusd)
        elif isinstance(body, ChainBurned):
            waiting[_key(body)] = body.account, int.from_bytes(body.amount)
        elif isinstance(body, BurnCredited):
            sound = _follows(body, waiting.pop(_key(body), None), oracle, guard, at)
            credited, unsound = (
                (credited + body.credit_microusd, unsound) if sound else (credited, unsound + body.credit_microusd)
            )
    return Burns(waiting, oracle, quotes, credited, unsound)


def _follows(body: BurnCredited, burned: tuple[bytes, int] | None, oracle: Oracle, guard: Guard, at: int) -> bool:
    """Whether a credit is for this burn, at the price that held at its time."""
    if burned != (body.account, int.from_bytes(body.burned)):
        return False
    try:
        price = oracle.price(guard, at)
        return (body.price_microusd, body.credit_microusd) == (price, credits_for(burned[1], price))
    except FallowError:
        return False


def _told(oracle: Oracle, quote: Quote, guard: Guard, at: int) -> Oracle:
    try:
        return oracle.told(quote, guard, at)
    except FallowError:
        return oracle  # it is older than what this feed said: settle refuses it, too


def _key(body: ChainBurned | BurnCredited) -> bytes:
    return body.transaction + body.place.to_bytes(8)


def _read(carried: Mapping[str, Sequence[Row]], known: Collection[str]) -> Burns:
    waiting = {key: (account, int.from_bytes(units)) for key, account, units in carried.get(BURNS, ())}
    rows = {feed: rest for feed, *rest in carried.get(QUOTES, ())}
    held = rows.pop("", [0])[0]
    return Burns(waiting, Oracle({feed: Quote(feed, *rest) for feed, rest in rows.items() if feed in known}, held))
