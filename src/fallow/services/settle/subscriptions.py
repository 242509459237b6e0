"""Subscriptions: metered use of shared services, reserved and settled window by window."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fallow.domain import calls, subscriptions
from fallow.domain.budgets import ACCOUNT_BUDGET, Budget, refusal
from fallow.domain.chart import Parts, accounts_of, chain, collect, give_back, hold, left_over, split
from fallow.domain.decisions import Decision
from fallow.domain.errors import Conflict, FallowError, InsufficientFunds, InvalidInput, NotFound, Unavailable
from fallow.domain.fees import Fees
from fallow.domain.identity import address
from fallow.domain.leases import NETWORK_FAILED
from fallow.domain.ledger import Transfer
from fallow.domain.money import dollars
from fallow.domain.subscriptions import (
    DeliveryKey,
    Meter,
    Refused,
    Reserve,
    Settle,
    Subscription,
    SubscriptionState,
    subscription_key,
)
from fallow.domain.views.money import SubscriptionView
from fallow.ports.budgets import BudgetStore
from fallow.ports.bus import Bus, Message
from fallow.ports.clock import Clock
from fallow.ports.database import Database, Transaction
from fallow.ports.decisions import DecisionStore
from fallow.ports.ledger import Ledger
from fallow.ports.mishaps import MISHAPS, steadily
from fallow.ports.rpc import serve
from fallow.ports.subscription_store import SourceKey, SubscriptionStore
from fallow.ports.tasks import background
from fallow.services.settle.posting import Available, Misposted, Posting
from fallow.services.settle.settled import settled
from fallow.services.settle.wallets import Wallet, wallet

QUEUE = "settle"
LOOK_S = 1.0
RESUMED_AT_ONCE_MAX = 100
BUGS = (Misposted, ValueError, LookupError, TypeError, ArithmeticError)
"""That a subscription does not add up, and will not at the next try. A database that fails says nothing of it."""

_REFUSALS: dict[str, tuple[type[FallowError], str]] = {
    "subscription.limit_reached": (InsufficientFunds, "The window's limit is used up; it begins anew with the next."),
    "subscription.suspended": (InsufficientFunds, "The account, or its budget, does not cover a window."),
    "subscription.ended": (Conflict, "The subscription is over."),
    "subscription.no_such_meter": (InvalidInput, "The tariff has no price for this meter."),
    "subscription.quantity": (InvalidInput, "The quantity is out of range."),
    "subscription.too_many_payees": (Conflict, "The subscription has as many payees as one settlement can hold."),
}


class Subscriptions:
    """Answers `settle.subscribe`, `meter`, `unsubscribe`, `subscriptions`. Several copies may run: rows are locked."""

    def __init__(
        self,
        *,
        bus: Bus,
        clock: Clock,
        database: Database,
        ledger: Ledger,
        store: SubscriptionStore,
        budgets: BudgetStore,
        decisions: DecisionStore,
        fees: Fees,
        epoch_ms: int,
    ) -> None:
        self._decisions = decisions
        self._bus = bus
        self._clock = clock
        self._database = database
        self._ledger = ledger
        self._posting = Posting(ledger)
        self._store = store
        self._budgets = budgets
        self._fees = fees
        self._epoch_ms = epoch_ms

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve, and settle windows that are over, while the context is open."""
        bus = self._bus
        async with (
            serve(bus, calls.subscriptions.SUBSCRIBE, calls.subscriptions.Subscribe, self.open, queue=QUEUE),
            serve(bus, calls.subscriptions.UNSUBSCRIBE, calls.subscriptions.SubscriptionRef, self.close, queue=QUEUE),
            serve(bus, calls.subscriptions.SUBSCRIPTIONS, calls.base.AccountRef, self.list_of, queue=QUEUE),
            serve(bus, calls.subscriptions.METER, calls.subscriptions.MeterUse, self.meter, queue=QUEUE),
            bus.subscribe(calls.money.CREDITED) as credited,
            background(
                steadily("settle.windows", self._roll, self._clock),
                steadily("settle.credits", partial(self._hear_credits, credited), self._clock),
            ),
        ):
            yield

    async def open(self, request: calls.subscriptions.Subscribe) -> SubscriptionView:
        """Begin: its first window is reserved. The same request again answers the same.

        Raises:
            InsufficientFunds: the account does not cover one window, or its budget does not allow it.
            Conflict: the id belongs to a subscription on other terms.
        """
        account, now = address(request.account), self._clock.now_ms()
        wanted = Subscription(
            id=request.id,
            key=subscription_key(account, request.id),
            account=account,
            vertical=request.vertical,
            tariff=request.tariff,
            limit_microusd=request.limit_microusd,
            window_ms=request.window_ms,
            opened_at=now,
            window_at=now,
            label=request.label,
            epoch_ms=self._epoch_ms,
        )
        async with self._database.transaction() as tx:
            found = await self._store.lock(tx, wanted.key)
            if found is not None:
                return _view(_same(found, wanted))
            budget = await self._budget(tx, account, now)
            available, reserved = await wallet(tx, self._ledger, account)
            parts = split(wanted.limit_microusd, available)
            if parts is None:
                raise InsufficientFunds(
                    "account.insufficient_funds",
                    f"The account does not cover the {dollars(wanted.limit_microusd)} that a window reserves.",
                    "Add credits, or lower the limit.",
                )
            if not budget.covers(wanted.limit_microusd, reserved):
                raise refusal(budget, wanted.limit_microusd, reserved)
            begun = subscriptions.held(wanted, parts)
            if not await self._store.add(tx, begun):
                raise Unavailable("subscription.raced", "The same request came twice at once.", "Send it again.")
            await self._posting.post(tx, begun.key, hold(begun.key, 0, account, parts), available, now)
        return _view(begun)

    async def meter(self, request: calls.subscriptions.MeterUse) -> SubscriptionView:
        """Count use. What is known already changes nothing; a report is counted as a whole or not at all.

        Since quantities are cumulative, a report that is refused for want of money can be sent again in the next
        window and loses nobody anything.

        Raises:
            NotFound: there is no such subscription.
            InsufficientFunds: the window's limit, or the account, does not cover it: stop serving.
            Conflict, InvalidInput: see `subscriptions.used`.
        """
        async with self._database.transaction() as tx:
            subscription = await self._locked(tx, request.account, request.id)
            said: dict[SourceKey, int] = {}
            for one in request.deliveries:
                counted = (one.source, address(one.payee), one.meter)
                said[counted] = max(said.get(counted, 0), int(one.quantity))
            known = await self._store.reported(tx, subscription.key, list(said))
            meters = await self._store.meters(tx, subscription.key, list({(payee, name) for _, payee, name in said}))
            news = {source: quantity for source, quantity in said.items() if quantity > known.get(source, 0)}
            grown: dict[DeliveryKey, Meter] = {}
            for (source, payee, name), quantity in news.items():
                before = grown.get((payee, name), meters.get((payee, name), Meter()))
                more = quantity - known.get((source, payee, name), 0)
                subscription, after = subscriptions.used(subscription, name, before, before.quantity + more)
                if isinstance(after, Refused):
                    raise _refusal(after)
                grown[payee, name] = after
            if news:
                await self._store.put_reports(tx, subscription.key, grown, news)
                await self._store.save(tx, subscription)
        return _view(subscription)

    async def close(self, request: calls.subscriptions.SubscriptionRef) -> SubscriptionView:
        """End a subscription at its buyer's word: what was used is paid. Closing it again changes nothing.

        Raises:
            NotFound: there is no such subscription.
        """
        now = self._clock.now_ms()
        async with self._database.transaction() as tx:
            before = await self._locked(tx, request.account, request.id)
            after, effects = subscriptions.closed(before, now, "buyer.closed")
            if any(isinstance(effect, Refused) for effect in effects):
                return _view(before)
            await self._store.save(tx, after)
            await self._follow(tx, before, effects, now)
        return _view(after)

    async def list_of(self, request: calls.base.AccountRef) -> list[SubscriptionView]:
        """Show an account's subscriptions by id."""
        async with self._database.transaction() as tx:
            found = await self._store.list_of(tx, address(request.account), request.after, request.limit)
        return [_view(one) for one in found]

    async def roll_one(self) -> bool:
        """Settle one window that is over, and reserve the next; False when there is none."""
        now = self._clock.now_ms()
        async with self._with_care() as care, self._database.transaction() as tx:
            care.extend(await self._store.due(tx, now, 1))
            for subscription in care:
                await self._roll_in(tx, subscription, now)
        return bool(care)

    async def resume(self, account: bytes) -> None:
        """Money came in: reserve windows for what was suspended, as far as it goes."""
        now = self._clock.now_ms()
        tried: set[bytes] = set()
        for _ in range(RESUMED_AT_ONCE_MAX):
            async with self._with_care() as care, self._database.transaction() as tx:
                waiting = await self._store.suspended(tx, account, len(tried) + 1)
                care.extend([one for one in waiting if one.key not in tried][:1])
                if not care:
                    return
                tried.add(care[0].key)
                await self._roll_in(tx, care[0], now)

    async def _roll_in(self, tx: Transaction, before: Subscription, now: int) -> None:
        after, effects = subscriptions.rolled(before, now)
        parts: Parts | None = None
        available: Available | None = None
        if any(isinstance(effect, Reserve) for effect in effects):
            after, parts, available = await self._next(tx, before, after, now)
        await self._store.save(tx, after)
        await self._follow(tx, before, effects, now, parts, available)

    async def _next(
        self, tx: Transaction, before: Subscription, after: Subscription, now: int
    ) -> tuple[Subscription, Parts | None, Available]:
        """Find what the next window is reserved from, of what is available; where nothing covers it, it waits."""
        budget = await self._budget(tx, before.account, now)
        available, reserved = await self._wallet(tx, before)
        parts = split(before.limit_microusd, available)
        if parts is None:
            return subscriptions.not_held(after, now), None, available
        if not budget.spend(before.owed_microusd).covers(before.limit_microusd, reserved):
            await self._budgets.save(tx, {before.account: budget._replace(reached=True)})
            return subscriptions.not_held(after, now, ACCOUNT_BUDGET), None, available
        return subscriptions.held(after, parts), parts, available

    @asynccontextmanager
    async def _with_care(self) -> AsyncIterator[list[Subscription]]:
        """Name the subscription that is at work: where a bug ends that, it ends, so that it holds up no other."""
        at_work: list[Subscription] = []
        try:
            yield at_work
        except BUGS as error:
            if not at_work:
                raise
            MISHAPS.note(f"settle.subscription {at_work[0].key.hex()}", error)
            await self._end_failed(at_work[0].key)

    async def _end_failed(self, key: bytes) -> None:
        """What was used is paid, the rest given back. Where that fails as well, its money stays where it is."""
        now = self._clock.now_ms()
        try:
            async with self._database.transaction() as tx:
                before = await self._store.lock(tx, key)
                if before is not None:
                    after, effects = subscriptions.closed(before, now, NETWORK_FAILED)
                    await self._store.save(tx, after)
                    await self._follow(tx, before, effects, now)
        except BUGS as error:
            MISHAPS.note(f"settle.subscription {key.hex()}", error)
            async with self._database.transaction() as tx:
                left = await self._store.lock(tx, key)
                if left is not None:
                    await self._store.save(tx, subscriptions.stopped(left, now, NETWORK_FAILED))

    async def _roll(self) -> None:
        while True:
            try:
                while await self.roll_one():
                    pass
            except Unavailable:
                pass  # another spender was faster, or the database is away: the window is still due at the next look
            await self._clock.sleep(LOOK_S)

    async def _hear_credits(self, credited: AsyncIterator[Message]) -> None:
        async for message in credited:
            try:
                await self.resume(address(message.data.decode()))
            except Unavailable:
                continue

    async def _locked(self, tx: Transaction, account: str, subscription_id: str) -> Subscription:
        found = await self._store.lock(tx, subscription_key(address(account), subscription_id))
        if found is None:
            raise NotFound("subscription.unknown", f"There is no subscription {subscription_id} of this account.")
        return found

    async def _budget(self, tx: Transaction, account: bytes, now: int) -> Budget:
        """Lock an account's budget: what is read of its credits from here on nobody else reserves."""
        return (await self._budgets.lock(tx, [account]))[account].at(now)

    async def _wallet(self, tx: Transaction, before: Subscription) -> Wallet:
        """What the next window can be reserved from, with what the open one gives back."""
        available, reserved = await wallet(tx, self._ledger, before.account)
        for credit, amount in left_over(before.held, before.owed_microusd):
            available[credit] = available.get(credit, 0) + amount
        return Wallet(available, reserved - sum(amount for _, amount in before.held))

    async def _follow(
        self,
        tx: Transaction,
        before: Subscription,
        effects: tuple[subscriptions.Effect, ...],
        now: int,
        following: Parts | None = None,
        available: Available | None = None,
    ) -> None:
        """Move the money of what a window's end asks for, as one chain; the next is `following`, from `available`."""
        transfers: list[Transfer] = []
        for effect in effects:
            match effect:
                case Settle(window):
                    budget = await self._budget(tx, before.account, now)
                    meters = await self._store.unsettled(tx, before.key)
                    owed = subscriptions.charges(before.tariff, meters, self._fees.at(before.window_at))
                    for payee, _ in owed:
                        await self._ledger.open_accounts(tx, accounts_of(payee))
                    moved = collect(before.key, window, before.held, owed)
                    spent = sum(charge.total for _, charge in owed)
                    await self._budgets.save(tx, {before.account: budget.spend(spent)})
                    told = settled(before, window, meters, moved, now)
                    await self._decisions.add(tx, [Decision(now, body) for body in told])
                    transfers += moved
                    await self._store.settle(tx, before.key)
                case subscriptions.Release(window):
                    transfers += give_back(before.key, window, before.held)
                case Reserve(window) if following is not None:
                    transfers += hold(before.key, window, before.account, following)
                case _:
                    pass
        if transfers:
            await self._posting.post(tx, before.key, chain(transfers), available, now)


def _same(found: Subscription, wanted: Subscription) -> Subscription:
    if not subscriptions.same_terms(found, wanted):
        raise Conflict(
            "subscription.id_taken", f"The id {wanted.id} belongs to other terms.", "Make a fresh random id."
        )
    return found


def _refusal(refused: Refused) -> FallowError:
    kind, told = _REFUSALS[refused.code]
    return kind(refused.code, told)


def _view(subscription: Subscription) -> SubscriptionView:
    active = subscription.state is SubscriptionState.ACTIVE
    return SubscriptionView(
        id=subscription.id,
        state=subscription.state.value,
        label=subscription.label,
        vertical=subscription.vertical,
        tariff=subscription.tariff,
        opened_at=subscription.opened_at,
        ended_at=subscription.ended_at,
        window=subscription.window,
        window_ends_at=subscription.due_at,
        limit_microusd=subscription.limit_microusd,
        left_microusd=subscription.limit_microusd - subscription.owed_microusd if active else 0,
        owed_microusd=subscription.owed_microusd,
        settled_microusd=subscription.settled_microusd,
        reason=subscription.reason,
    )
