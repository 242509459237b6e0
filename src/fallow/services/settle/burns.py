"""Burned tokens become credits, at a price that feeds report and a guard lets through. Without one they wait."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from fallow.domain import calls
from fallow.domain.chart import accounts_of, burn
from fallow.domain.decisions import Decision
from fallow.domain.errors import Conflict, InvalidInput, NotAllowed, TooMuch, Unavailable
from fallow.domain.identity import address_text
from fallow.domain.ledger import Result
from fallow.domain.price_facts import BurnCredited, PriceAccepted, PriceReported, price_text
from fallow.domain.records import Body
from fallow.domain.rewards.oracle import Guard, Oracle, Quote, credits_for
from fallow.domain.views.prices import PriceView, QuoteOfFeedView
from fallow.domain.wallets import signer_of
from fallow.ports.acting import action_of, note
from fallow.ports.burn_store import Burn, BurnStore
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.database import Database, Transaction
from fallow.ports.decisions import DecisionStore
from fallow.ports.ledger import Ledger
from fallow.ports.mishaps import steadily
from fallow.ports.registry_store import ActionLog
from fallow.ports.rpc import serve
from fallow.ports.tasks import background

QUEUE: Final = "settle"
NO_FEEDS: Final = "The operator has named no feeds of the price (the setting price_feeds), so that burned tokens wait."
POLL_S: Final = 2.0
BURNS_MAX: Final = 1_000
"""That one transaction credits."""

GAP_MS: Final = 10_000
"""Between two reports of one feed: they are records, which are kept for ever."""

CREDITED: Final = {Result.EXISTS, Result.EXISTS_WITH_DIFFERENT_AMOUNT}
"""What the ledger says of a burn that it knows; at another price its amount is another one."""

AHEAD_MS: Final = 5_000
"""By how much a feed's clock may be ahead."""


class Burns:
    """Answers about the price, and credits what waits. `feeds` are the addresses whose word counts."""

    def __init__(
        self,
        *,
        net: str,
        feeds: Collection[bytes],
        guard: Guard,
        bus: Bus,
        clock: Clock,
        database: Database,
        ledger: Ledger,
        store: BurnStore,
        decisions: DecisionStore,
        log: ActionLog,
    ) -> None:
        self._net = net
        self._feeds = {address_text(feed) for feed in feeds}
        self._guard = guard
        self._bus = bus
        self._clock = clock
        self._database = database
        self._ledger = ledger
        self._store = store
        self._decisions = decisions
        self._log = log

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve while the context is open."""
        async with (
            serve(self._bus, calls.tokens.REPORT_PRICE, calls.tokens.ReportPrice, self.report, queue=QUEUE),
            serve(self._bus, calls.tokens.ACCEPT_PRICE, calls.tokens.HoldPrice, self.accept, queue=QUEUE),
            serve(self._bus, calls.tokens.PRICE, dict[str, str], self.price, queue=QUEUE),
            background(steadily("settle.burns", self._for_ever, self._clock)),
        ):
            yield

    async def report(self, told: calls.tokens.ReportPrice) -> PriceView:
        """Hear a feed.

        Raises:
            NotAllowed: whoever signed is no feed of this network.
            InvalidInput: it is older than what the feed said before, too old to count, or ahead of time.
            TooMuch: the feed has just said something.
        """
        signature = bytes.fromhex(told.signature[2:])
        text = price_text(self._net, told.price_microusd, told.doubt_microusd, told.at_ms)
        feed, now = signer_of(text, signature), self._clock.now_ms()
        quote = Quote(address_text(feed), told.at_ms, told.price_microusd, told.doubt_microusd)
        if quote.source not in self._feeds:
            raise NotAllowed("price.no_feed", f"{quote.source} is no feed of this network's price.")
        if not now - self._guard.age_max_ms <= told.at_ms <= now + AHEAD_MS:
            raise InvalidInput("price.time", "The price is of another time.", "Set the clock; report prices as of now.")
        body = PriceReported(
            feed=feed,
            price_microusd=told.price_microusd,
            doubt_microusd=told.doubt_microusd,
            at_ms=told.at_ms,
            signature=signature,
        )
        async with self._database.transaction() as tx:
            oracle = await self._oracle(tx)
            last = oracle.quotes.get(quote.source)
            if quote == last:
                return await self._view(tx, oracle)
            heard = oracle.told(quote, self._guard, now)
            if last is not None and quote.at_ms < last.at_ms + GAP_MS:
                raise TooMuch("price.too_often", f"A feed says a price at most every {GAP_MS // 1000} seconds.")
            await self._store.save(tx, heard)
            await self._record(tx, now, body)
            return await self._view(tx, heard)

    async def accept(self, accepted: calls.tokens.HoldPrice) -> PriceView:
        """Let the price go on from the operator's after a jump. It still takes the feeds to have one.

        Raises:
            Conflict: what the feeds say is too far from it, too.
        """
        now = self._clock.now_ms()
        async with self._database.transaction() as tx:
            oracle = msgspec.structs.replace(await self._oracle(tx), held=accepted.price_microusd)
            try:
                oracle.price(self._guard, now)
            except Unavailable as error:
                raise Conflict("price.not_so", f"That is not what the feeds say. {error.message}") from error
            await self._store.save(tx, oracle)
            await self._record(tx, now, PriceAccepted(price_microusd=accepted.price_microusd))
            if accepted.by is not None:
                about = str(accepted.price_microusd)
                await note(
                    self._log, tx, action_of(accepted.by, "price.accept", now, once=f"{about} {now}", about=about)
                )
            return await self._view(tx, oracle)

    async def price(self, _: dict[str, str]) -> PriceView:
        """Show the price, or why there is none."""
        async with self._database.transaction() as tx:
            return await self._view(tx, self._heard(await self._store.look(tx)))

    async def credit(self) -> int:
        """Credit what waits, if there is a price; returns how many burns that were.

        Raises:
            Unavailable: there is no sound price, or the database is away; nothing is lost.
        """
        async with self._database.transaction() as tx:
            if not await self._store.count(tx):
                return 0
            oracle, now = await self._oracle(tx), self._clock.now_ms()
            price = oracle.price(self._guard, now)
            burns = await self._store.take(tx, BURNS_MAX)
            credited = await self._post(tx, burns, price)
            await self._record(tx, now, *(_credited(each, price) for each in credited))
        for account in {each.account for each in credited}:
            await self._bus.publish(calls.money.CREDITED, address_text(account).encode())
        return len(burns)

    async def _post(self, tx: Transaction, burns: Collection[Burn], price: int) -> list[Burn]:
        """Credit burns; returns those that were not credited before.

        A chain that takes back more than counts as final shows a burn again, in a later block: once it is credited it
        is done, whatever the price is now.
        """
        owners = sorted({each.account for each in burns})
        await self._ledger.open_accounts(tx, [account for owner in owners for account in accounts_of(owner)])
        transfers = [burn(*each[:4], credits_for(each.amount, price)) for each in burns]
        results = await self._ledger.post(tx, transfers, self._clock.now_ms())
        if refused := next((result for result in results if result not in {Result.OK, *CREDITED}), None):
            raise Conflict("burn.refused", f"The ledger refused burned credits: {refused}.")
        return [each for each, result in zip(burns, results, strict=True) if result is Result.OK]

    async def _oracle(self, tx: Transaction) -> Oracle:
        """The price, to change it or to credit at it: nobody else changes it before that is done."""
        return self._heard(await self._store.oracle(tx))

    def _heard(self, oracle: Oracle) -> Oracle:
        """What those say who are feeds now."""
        return Oracle({feed: quote for feed, quote in oracle.quotes.items() if feed in self._feeds}, oracle.held)

    async def _record(self, tx: Transaction, at: int, *bodies: Body) -> None:
        """The time is that at which the price was looked at: with it the fold comes to the same one."""
        await self._decisions.add(tx, [Decision(at, body) for body in bodies])

    async def _view(self, tx: Transaction, oracle: Oracle) -> PriceView:
        price, code, why = None, "", ""
        try:
            price = oracle.price(self._guard, self._clock.now_ms())
        except Unavailable as error:
            code, why = (error.code, error.message) if self._feeds else ("oracle.no_feeds", NO_FEEDS)
        return PriceView(
            price_microusd=price,
            code=code,
            why=why,
            last_microusd=oracle.held,
            quotes=[
                QuoteOfFeedView(feed=feed, price_microusd=quote.price, doubt_microusd=quote.doubt, at=quote.at_ms)
                for feed, quote in sorted(oracle.quotes.items())
            ],
            waiting=await self._store.count(tx),
        )

    async def _for_ever(self) -> None:
        while True:
            try:
                done = await self.credit()
            except Unavailable:
                done = 0  # they wait in the database; `price` says for what
            if done < BURNS_MAX:
                await self._clock.sleep(POLL_S)


def _credited(each: Burn, price: int) -> BurnCredited:
    return BurnCredited(
        transaction=each.transaction,
        place=each.place,
        account=each.account,
        burned=each.amount.to_bytes(32),
        price_microusd=price,
        credit_microusd=credits_for(each.amount, price),
    )
