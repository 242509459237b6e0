"""The token: its price, and what stake with an operator earns."""

from __future__ import annotations

from fallow.domain import calls
from fallow.domain.views.prices import PriceView
from fallow.sdk.wire import Wire


class TokenCalls(Wire):
    """What burned tokens are credited at, and what operators keep."""

    async def price(self) -> PriceView:
        """The price and what each feed says of it, or why there is none."""
        return await self._call("GET", "/v1/price", PriceView)

    async def report_price(self, report: calls.tokens.ReportPrice) -> PriceView:
        """Say a price as a feed; the same again changes nothing."""
        return await self._call("POST", "/v1/price", PriceView, body=report)

    async def accept_price(self, price_microusd: int) -> PriceView:
        """Operator: let the price go on from here after a jump."""
        body = calls.tokens.AcceptPrice(price_microusd=price_microusd)
        return await self._call("POST", "/v1/operator/price", PriceView, body=body)

    async def set_take(self, said: calls.tokens.SetTake) -> None:
        """Say as an operator what you keep of what others' stake earns."""
        await self._call("POST", "/v1/stake/take", object, body=said)
