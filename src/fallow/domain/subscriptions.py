"""The life of a subscription: metered use of a shared service, settled window by window. Pure.

The buyer reserves `limit_microusd` for each window, and that is all a window can cost him. Those who serve him report
what each of them delivered as a quantity that only grows over the whole subscription, so that a report which is
repeated, late or overtaken changes nothing or falls into the next window; it is never lost and never counted twice.
Reports are rolled up here: the ledger hears of a window once, when it is over.

Owed = price x cumulative quantity, floored once per (subscription, payee, meter): a tariff never changes within a
subscription, so this is the rule of DESIGN section 6 with the subscription as the price's version.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from fallow.domain.billing import Charge, FeePolicy, cumulative_charge
from fallow.domain.chart import Parts
from fallow.domain.encoding import tagged_hash
from fallow.domain.resources import PRICE_MICROUSD_MAX
from fallow.domain.windows import cut_in_ms, length_ms

TARIFF_METERS_MAX = 16
DELIVERIES_MAX = 2000
"""Payees times meters of one subscription: its settlement must fit into one batch of the ledger."""

RETRY_MS = 60_000
"""How long a suspended subscription waits before it looks again whether there is money, without being told."""

QUANTITY_MAX = (1 << 128) - 1
"""Bytes times milliseconds of an exabyte over a century fit."""

MeterName = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,39}$(?!\n)")]


class Price(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`microusd` for `per` units of a meter, for example 4,000 for 2**30 bytes."""

    microusd: Annotated[int, Meta(ge=0, le=PRICE_MICROUSD_MAX)]
    per: Annotated[int, Meta(ge=1, le=1 << 62)] = 1


Tariff = Annotated[dict[MeterName, Price], Meta(min_length=1, max_length=TARIFF_METERS_MAX)]


class SubscriptionState(StrEnum):
    """Where a subscription stands: in service, without money for its next window, or over."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    ENDED = "ended"


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """One buyer's use of one shared service.

    `id` is the buyer's (32 hex digits), `key` the ledger's. `window` is the number of the open one, which began at
    `window_at`; `held` is what is reserved for it, as (credit class, micro-US-dollars) in the order of spending, and
    `owed_microusd` what its use costs so far. `settled_microusd` covers the windows before; `deliveries` counts pairs
    of payee and meter. Windows are cut before epochs of `epoch_ms` end. Times are milliseconds.
    """

    id: str
    key: bytes
    account: bytes
    vertical: str
    tariff: Tariff
    limit_microusd: int
    window_ms: int
    opened_at: int
    window_at: int
    label: str = ""
    state: SubscriptionState = SubscriptionState.ACTIVE
    window: int = 0
    held: Parts = ()
    owed_microusd: int = 0
    settled_microusd: int = 0
    deliveries: int = 0
    ended_at: int | None = None
    reason: str = ""
    epoch_ms: int = 0

    @property
    def due_at(self) -> int:
        """When its open window is over or, suspended, when to look for money again."""
        if self.state is SubscriptionState.SUSPENDED:
            return self.window_at + RETRY_MS
        until_cut_ms = cut_in_ms(self.window_at, self.epoch_ms, self.key) if self.epoch_ms else 0
        return self.window_at + length_ms(self.window_ms, until_cut_ms, self.epoch_ms)


DeliveryKey = tuple[bytes, str]
"""Payee (20 bytes) and meter."""


class Meter(NamedTuple):
    """What one payee delivered on one meter since the subscription began: in all, and as far as it is settled."""

    quantity: int = 0
    settled: int = 0


class Refused(NamedTuple):
    """The event does not fit; nothing changed."""

    code: str


class Settle(NamedTuple):
    """Charge window `window` and give back the rest of what it held."""

    window: int


class Release(NamedTuple):
    """Give back all that window `window` held."""

    window: int


class Reserve(NamedTuple):
    """Hold the limit for window `window`, in one step with what came before it."""

    window: int


Effect = Settle | Release | Reserve | Refused
Step = tuple[Subscription, tuple[Effect, ...]]


def subscription_key(account: bytes, subscription_id: str) -> bytes:
    """16 bytes under which the ledger knows it. Buyers choose ids, but no key: it cannot be made to meet a lease's."""
    return tagged_hash("fallow/subscription/1", account + subscription_id.encode())[:16]


def opened(subscription: Subscription) -> Step:
    """Begin: the first window is reserved before anything is served."""
    return subscription, (Reserve(0),)


def used(  # noqa: PLR0911 - one return per refusal
    subscription: Subscription, meter: str, before: Meter, quantity: int
) -> tuple[Subscription, Meter | Refused]:
    """A payee has delivered `quantity` on a meter since the beginning; `before` is what was known of it.

    A quantity that is known already changes nothing. Use beyond what the window holds is refused: whoever serves
    stops serving, and is not paid for what he gave away meanwhile.
    """
    if subscription.state is SubscriptionState.ENDED:
        return subscription, Refused("subscription.ended")
    price = subscription.tariff.get(meter)
    if price is None:
        return subscription, Refused("subscription.no_such_meter")
    if not 0 <= quantity <= QUANTITY_MAX:
        return subscription, Refused("subscription.quantity")
    if quantity <= before.quantity:
        return subscription, before
    if subscription.state is SubscriptionState.SUSPENDED:
        return subscription, Refused("subscription.suspended")
    more = _total(price, quantity) - _total(price, before.quantity)
    owed = subscription.owed_microusd + more
    if owed > subscription.limit_microusd:
        return subscription, Refused("subscription.limit_reached")
    deliveries = subscription.deliveries + (before == Meter())
    if deliveries > DELIVERIES_MAX:
        return subscription, Refused("subscription.too_many_payees")
    after = msgspec.structs.replace(subscription, owed_microusd=owed, deliveries=deliveries)
    return after, before._replace(quantity=quantity)


def rolled(subscription: Subscription, at: int) -> Step:
    """The open window is over: it is settled and the next one reserved, in one linked step.

    A window in which nothing is owed just goes on, with what it holds: idle subscriptions cost the ledger nothing. A
    suspended subscription tries again to reserve its window, which begins when that succeeds.
    """
    if subscription.state is SubscriptionState.ENDED:
        return subscription, (Refused("subscription.ended"),)
    if subscription.state is SubscriptionState.SUSPENDED:
        return msgspec.structs.replace(subscription, window_at=at), (Reserve(subscription.window),)
    if at < subscription.due_at:
        return subscription, (Refused("window.open"),)
    if subscription.owed_microusd == 0:
        return msgspec.structs.replace(subscription, window_at=at), ()
    return _settled(subscription, at), (Settle(subscription.window), Reserve(subscription.window + 1))


def not_held(subscription: Subscription, at: int, reason: str = "buyer.insufficient_funds") -> Subscription:
    """The account cannot pay for the window that was to be reserved: nothing is served until it can."""
    return msgspec.structs.replace(
        subscription,
        state=SubscriptionState.SUSPENDED,
        window_at=at,
        held=(),
        reason=reason,
    )


def held(subscription: Subscription, parts: Parts) -> Subscription:
    """The open window is reserved, from these credit classes."""
    return msgspec.structs.replace(subscription, state=SubscriptionState.ACTIVE, held=parts, reason="")


def closed(subscription: Subscription, at: int, reason: str) -> Step:
    """Buyer or network end it: what was used is paid, the rest given back."""
    if subscription.state is SubscriptionState.ENDED:
        return subscription, (Refused("subscription.ended"),)
    after = subscription
    effects: tuple[Effect, ...] = ()
    if subscription.owed_microusd:
        after, effects = _settled(subscription, at), (Settle(subscription.window),)
    elif subscription.held:
        effects = (Release(subscription.window),)
    return msgspec.structs.replace(after, state=SubscriptionState.ENDED, held=(), ended_at=at, reason=reason), effects


def stopped(subscription: Subscription, at: int, reason: str) -> Subscription:
    """It ends, and no money moves: what it holds stays held, and what was used is not paid."""
    return msgspec.structs.replace(subscription, state=SubscriptionState.ENDED, ended_at=at, reason=reason)


def charges(
    tariff: Mapping[str, Price], meters: Mapping[DeliveryKey, Meter], fee: FeePolicy
) -> list[tuple[bytes, Charge]]:
    """What the open window owes to each payee, by payee; empty charges are left out.

    The sum is what `used` counted, to the micro-dollar.
    """
    sums: dict[bytes, Charge] = {}
    for (payee, name), meter in sorted(meters.items()):
        price = tariff[name]
        now = cumulative_charge(meter.quantity * price.microusd, fee, price.per)
        before = cumulative_charge(meter.settled * price.microusd, fee, price.per)
        so_far = sums.get(payee, Charge(0, 0, 0))
        sums[payee] = Charge(*(part + new - old for part, new, old in zip(so_far, now, before, strict=True)))
    return [(payee, charge) for payee, charge in sums.items() if charge.total]


def same_terms(one: Subscription, other: Subscription) -> bool:
    """Whether two were asked for in the same words. The tariff is none of the buyer's: it may be another one since."""
    terms = ("id", "account", "vertical", "limit_microusd", "window_ms", "label")
    return all(getattr(one, name) == getattr(other, name) for name in terms)


def _settled(subscription: Subscription, at: int) -> Subscription:
    return msgspec.structs.replace(
        subscription,
        window=subscription.window + 1,
        window_at=at,
        held=(),
        owed_microusd=0,
        settled_microusd=subscription.settled_microusd + subscription.owed_microusd,
    )


def _total(price: Price, quantity: int) -> int:
    return price.microusd * quantity // price.per
