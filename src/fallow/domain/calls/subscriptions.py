"""Requests about subscriptions, and what is delivered for them."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from fallow.domain.calls.base import Request
from fallow.domain.leases import WINDOW_MS_MAX
from fallow.domain.orders import Id, Label
from fallow.domain.resources import PRICE_MICROUSD_MAX
from fallow.domain.subscriptions import MeterName, Tariff

SUBSCRIBE = "settle.subscribe"
UNSUBSCRIBE = "settle.unsubscribe"
SUBSCRIPTIONS = "settle.subscriptions"
METER = "settle.meter"


class OpenSubscription(Request, frozen=True, kw_only=True):
    """What a buyer says of the subscription that he opens: the tariff is the vertical's."""

    id: Id
    vertical: Annotated[str, Meta(pattern="^[a-z]{1,20}$")]
    limit_microusd: Annotated[int, Meta(ge=1, le=PRICE_MICROUSD_MAX)]
    label: Label = ""


class Subscribe(Request, frozen=True, kw_only=True):
    """Open a subscription in the name of an account: metered use of a service of `vertical`, at its `tariff`.

    `id` is made by the buyer (32 hex digits); the same again changes nothing. `limit_microusd` is reserved for each
    window and bounds what it can cost.
    """

    id: Id
    account: str
    vertical: Annotated[str, Meta(pattern="^[a-z]{1,20}$")]
    tariff: Tariff
    limit_microusd: Annotated[int, Meta(ge=1, le=PRICE_MICROUSD_MAX)]
    window_ms: Annotated[int, Meta(ge=1000, le=WINDOW_MS_MAX)] = WINDOW_MS_MAX
    label: Label = ""


class SubscriptionRef(Request, frozen=True, kw_only=True):
    """A subscription of an account."""

    account: str
    id: str


class Delivery(Request, frozen=True, kw_only=True):
    """What `payee` has delivered on a meter since the subscription began, as `source` knows it.

    The quantity only grows. Each party that counts (a gateway's process, a node's boot) is a `source` of its own.
    """

    source: Annotated[str, Meta(pattern=r"^[a-z0-9.:\-]{1,80}$(?!\n)")]
    payee: str
    meter: MeterName
    quantity: Annotated[str, Meta(pattern="^[0-9]{1,39}$")]


class MeterUse(Request, frozen=True, kw_only=True):
    """A gateway reports use of one subscription. Answered with `SubscriptionView`; sending it again changes nothing."""

    account: str
    id: str
    deliveries: Annotated[list[Delivery], Meta(min_length=1, max_length=500)]
