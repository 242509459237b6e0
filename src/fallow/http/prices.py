"""The price that burned tokens are credited at: shown to everybody, reported by feeds with a signature of theirs."""

from __future__ import annotations

from litestar import get, post
from litestar.params import JSONBody

from fallow.domain import calls
from fallow.domain.fees import Fees
from fallow.domain.views.prices import FeeView, MeterPriceView, PricesView, PriceView
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
    """What the network takes, now and next, and what verticals' versions fix."""
    return prices_of(gateway)


@post("/v1/operator/fee", guards=[operator], responses=keyed(400, 409, 413), tags=["operator"])
async def set_fee(gateway: Parts, by: By, data: JSONBody[calls.fees.SetFee]) -> PricesView:
    """Say what the network keeps of prices. What takes more from owners holds a day later at the earliest."""
    said = calls.fees.SayFee(
        id=data.id, fee_ppm=data.fee_ppm, reserve_ppm=data.reserve_ppm, from_ms=data.from_ms, by=by
    )
    gateway.fees.words = (await gateway.ask(calls.fees.SET_FEE, said, calls.fees.FeeWords)).words
    return prices_of(gateway)


def prices_of(gateway: Gateway) -> PricesView:
    """Show what a gateway knows."""
    now = gateway.clock.now_ms()
    fee = gateway.fees.at(now)
    return PricesView(
        fee_ppm=fee.fee_ppm,
        reserve_ppm=fee.reserve_ppm,
        next_fee=next_fee(gateway.fees, now),
        meters=[
            MeterPriceView(vertical=name, meter=meter, microusd=one.microusd, per=one.per)
            for name, vertical in sorted(gateway.verticals.items())
            for meter, one in sorted((vertical.tariff or {}).items())
        ],
    )


def next_fee(fees: Fees, now_ms: int) -> FeeView | None:
    """Show what holds after what holds now."""
    word = fees.following(now_ms)
    return None if word is None else FeeView(**word._asdict())


PUBLIC_ROUTES = [price, report]
ROUTES = [accept, prices, set_fee]
