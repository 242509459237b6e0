"""The price that burned tokens are credited at: shown to everybody, reported by feeds with a signature of theirs."""

from __future__ import annotations

from litestar import get, post
from litestar.params import JSONBody

from fallow.domain import calls
from fallow.domain.views.prices import MeterPriceView, PricesView, PriceView
from fallow.http.answers import keyed, public
from fallow.http.auth import anyone, operator, viewer
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
    """What the network takes: settings and versions of verticals, which hold from a start on."""
    return PricesView(
        fee_ppm=gateway.fee.fee_ppm,
        reserve_ppm=gateway.fee.reserve_ppm,
        meters=[
            MeterPriceView(vertical=name, meter=meter, microusd=one.microusd, per=one.per)
            for name, vertical in sorted(gateway.verticals.items())
            for meter, one in sorted((vertical.tariff or {}).items())
        ],
    )


PUBLIC_ROUTES = [price, report]
ROUTES = [accept, prices]
