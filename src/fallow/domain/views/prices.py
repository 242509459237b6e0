"""What the network takes, and what its token is worth. Times are milliseconds since 1970 UTC."""

from __future__ import annotations

from fallow.domain.views.base import View


class QuoteOfFeedView(View, frozen=True, kw_only=True):
    """What a feed said last of a token's price, in micro-US-dollars, and when (milliseconds since 1970)."""

    feed: str
    price_microusd: int
    doubt_microusd: int
    at: int


class PriceView(View, frozen=True, kw_only=True):
    """The price that burned tokens are credited at; None where there is no sound one, and `code` and `why` say why not.

    `last_microusd` is the last one that held (0: none yet). `waiting` burns are credited once there is a price.
    """

    price_microusd: int | None
    code: str = ""
    why: str
    last_microusd: int
    quotes: list[QuoteOfFeedView]
    waiting: int


class MeterPriceView(View, frozen=True, kw_only=True):
    """What a vertical's subscriptions pay: `microusd` for `per` of what a meter counts.

    People speak of `unit_per` of that at once, which `unit` says in each language; a meter that is none of people's has
    no words.
    """

    vertical: str
    meter: str
    microusd: int
    per: int
    unit_per: int = 1
    unit: dict[str, str] = {}


class TariffView(View, frozen=True, kw_only=True):
    """What subscriptions to a vertical that are opened from a moment on pay."""

    vertical: str
    from_ms: int
    meters: list[MeterPriceView]


class FeeView(View, frozen=True, kw_only=True):
    """What the network takes from a moment on: its fee in millionths of usage, and the reserve's part of that fee."""

    from_ms: int
    fee_ppm: int
    reserve_ppm: int


class PricesView(View, frozen=True, kw_only=True):
    """What the network itself takes: its fee in millionths of usage, and what of that goes to the reserve.

    `next_fee` is what holds after that; None where nothing else was said. `meters` are prices that a vertical has for
    everybody who subscribes now, `next_tariffs` what holds after that. Where it has none, providers name their own.
    """

    fee_ppm: int
    reserve_ppm: int
    meters: list[MeterPriceView]
    next_fee: FeeView | None = None
    next_tariffs: list[TariffView] = []
