"""The token's price."""

from __future__ import annotations

from fallow.domain import calls
from fallow.domain.views import PriceView
from fallow.sdk.wire import Wire


class PriceCalls(Wire):
    """What burned tokens are credited at."""

    async def price(self) -> PriceView:
        """The price and what each feed says of it, or why there is none."""
        return await self._call("GET", "/v1/price", PriceView)

    async def report_price(self, report: calls.ReportPrice) -> PriceView:
        """Say a price as a feed; the same again changes nothing."""
        return await self._call("POST", "/v1/price", PriceView, body=report)

    async def accept_price(self, price_microusd: int) -> PriceView:
        """Operator: let the price go on from here after a jump."""
        body = calls.AcceptPrice(price_microusd=price_microusd)
        return await self._call("POST", "/v1/operator/price", PriceView, body=body)
