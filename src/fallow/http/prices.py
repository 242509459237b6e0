"""The price that burned tokens are credited at: shown to everybody, reported by feeds with a signature of theirs."""

from __future__ import annotations

from litestar import get, post
from litestar.params import JSONBody

from fallow.domain import calls
from fallow.domain.fees import Fees
from fallow.domain.subscriptions import Tariff
from fallow.domain.views.prices import FeeView, MeterPriceView, PricesView, PriceView, TariffView
from fallow.http.answers import keyed, public
from fallow.http.auth import anyone, operator, viewer
from fallow.http.gateway import Gateway
from fallow.http.params import By, Parts


@get("/v1/price", guards=[anyone], responses=public(), tags=["price"])
async def price(gateway: Parts) -> PriceView:
    """The token's price and what each feed says of it, or why there is none."""
    return await gateway.ask(calls.tokens.PRICE, {}, PriceView)


@post("/v1/price", guards=[anyone], responses=public(403, 413), tags=["price"])
async def report(gateway: Parts, data: JSONBody[calls.tokens.ReportPrice]) -> PriceView:
    """Say what a token is worth, as a feed that the operator has named: its signature tells which one."""
    return await gateway.ask(calls.tokens.REPORT_PRICE, data, PriceView)


@post("/v1/operator/price", guards=[operator], responses=keyed(409, 413), tags=["operator"])
async def accept(gateway: Parts, by: By, data: JSONBody[calls.tokens.AcceptPrice]) -> PriceView:
    """Let the price go on from here after a jump that you have looked at."""
    return await gateway.ask(
        calls.tokens.ACCEPT_PRICE, calls.tokens.HoldPrice(price_microusd=data.price_microusd, by=by), PriceView
    )


@get("/v1/operator/prices", guards=[viewer], responses=keyed(), tags=["operator"])
async def prices(gateway: Parts) -> PricesView:
    """What the network takes and what shared services cost, now and next."""
    return prices_of(gateway)


@post("/v1/operator/fee", guards=[operator], responses=keyed(400, 409, 413), tags=["operator"])
async def set_fee(gateway: Parts, by: By, data: JSONBody[calls.fees.SetFee]) -> PricesView:
    """Say what the network keeps of prices. What takes more from owners holds a day later at the earliest."""
    said = calls.fees.SayFee(
        id=data.id, fee_ppm=data.fee_ppm, reserve_ppm=data.reserve_ppm, from_ms=data.from_ms, by=by
    )
    gateway.fees.words = (await gateway.ask(calls.fees.SET_FEE, said, calls.fees.FeeWords)).words
    return prices_of(gateway)


@post("/v1/operator/tariff", guards=[operator], responses=keyed(400, 404, 409, 413), tags=["operator"])
async def set_tariff(gateway: Parts, by: By, data: JSONBody[calls.tariffs.SetTariff]) -> PricesView:
    """Say what subscriptions that are opened from a moment on pay. What asks less holds a day later at the earliest."""
    said = calls.tariffs.SayTariff(id=data.id, vertical=data.vertical, tariff=data.tariff, from_ms=data.from_ms, by=by)
    gateway.tariffs.words = (await gateway.ask(calls.tariffs.SET_TARIFF, said, calls.tariffs.TariffWords)).words
    return prices_of(gateway)


def prices_of(gateway: Gateway) -> PricesView:
    """Show what a gateway knows."""
    now = gateway.clock.now_ms()
    fee = gateway.fees.at(now)
    return PricesView(
        fee_ppm=fee.fee_ppm,
        reserve_ppm=fee.reserve_ppm,
        next_fee=next_fee(gateway.fees, now),
        meters=meters(gateway, now),
        next_tariffs=next_tariffs(gateway, now),
    )


def meters(gateway: Gateway, now_ms: int) -> list[MeterPriceView]:
    """Show what all shared services cost who subscribes now."""
    return [each for name in sorted(gateway.verticals) for each in meters_of(gateway, name, now_ms)]


def next_tariffs(gateway: Gateway, now_ms: int) -> list[TariffView]:
    """Show what they cost after that, where something else was said."""
    found = (next_tariff(gateway, name, now_ms) for name in sorted(gateway.verticals))
    return [one for one in found if one is not None]


def meters_of(gateway: Gateway, vertical: str, now_ms: int) -> list[MeterPriceView]:
    """Show what one vertical's shared service costs who subscribes now."""
    return _meters(gateway, vertical, gateway.tariffs.at(vertical, now_ms))


def next_tariff(gateway: Gateway, vertical: str, now_ms: int) -> TariffView | None:
    """Show what it costs after that; None where nothing else was said."""
    word = gateway.tariffs.following(vertical, now_ms)
    if word is None:
        return None
    return TariffView(vertical=vertical, from_ms=word.from_ms, meters=_meters(gateway, vertical, word.tariff))


def _meters(gateway: Gateway, vertical: str, tariff: Tariff) -> list[MeterPriceView]:
    units = gateway.verticals[vertical].units
    return [
        MeterPriceView(
            vertical=vertical,
            meter=meter,
            microusd=price.microusd,
            per=price.per,
            unit_per=units[meter].per if meter in units else price.per,
            unit=dict(units[meter].said) if meter in units else {},
        )
        for meter, price in sorted(tariff.items())
    ]


def next_fee(fees: Fees, now_ms: int) -> FeeView | None:
    """Show what holds after what holds now."""
    word = fees.following(now_ms)
    return None if word is None else FeeView(**word._asdict())


PUBLIC_ROUTES = [price, report]
ROUTES = [accept, prices, set_fee, set_tariff]
