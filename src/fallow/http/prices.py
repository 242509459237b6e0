"""The price that burned tokens are credited at: shown to everybody, reported by feeds with a signature of theirs."""

from __future__ import annotations

from litestar import get, post
from litestar.params import JSONBody

from fallow.domain import calls
from fallow.domain.views import PriceView
from fallow.http.answers import keyed, public
from fallow.http.auth import anyone, operator
from fallow.http.params import By, Parts


@get("/v1/price", guards=[anyone], responses=public(), tags=["price"])
async def price(gateway: Parts) -> PriceView:
    """The token's price and what each feed says of it, or why there is none."""
    return await gateway.ask(calls.PRICE, {}, PriceView)


@post("/v1/price", guards=[anyone], responses=public(403, 413), tags=["price"])
async def report(gateway: Parts, data: JSONBody[calls.ReportPrice]) -> PriceView:
    """Say what a token is worth, as a feed that the operator has named: its signature tells which one."""
    return await gateway.ask(calls.REPORT_PRICE, data, PriceView)


@post("/v1/operator/price", guards=[operator], responses=keyed(409, 413), tags=["operator"])
async def accept(gateway: Parts, by: By, data: JSONBody[calls.AcceptPrice]) -> PriceView:
    """Let the price go on from here after a jump that you have looked at."""
    return await gateway.ask(calls.ACCEPT_PRICE, calls.HoldPrice(price_microusd=data.price_microusd, by=by), PriceView)


PUBLIC_ROUTES = [price, report]
ROUTES = [accept]
