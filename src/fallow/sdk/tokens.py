"""What the network keeps of prices; the token: its price, and what stake with an operator earns."""

from __future__ import annotations

from fallow.domain import calls
from fallow.domain.subscriptions import Price
from fallow.domain.views.prices import PricesView, PriceView
from fallow.sdk.accounts import new_id
from fallow.sdk.wire import Wire


class TokenCalls(Wire):
    """The network's fee, what burned tokens are credited at, and what operators keep."""

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

    async def prices(self) -> PricesView:
        """Operator: what the network keeps of prices and what shared services cost, now and next."""
        return await self._call("GET", "/v1/operator/prices", PricesView)

    async def set_fee(self, fee_ppm: int, reserve_ppm: int, *, from_ms: int | None = None) -> PricesView:
        """Operator: say what the network keeps from a moment on; None is as early as may be."""
        body = calls.fees.SetFee(id=new_id(), fee_ppm=fee_ppm, reserve_ppm=reserve_ppm, from_ms=from_ms)
        return await self._call("POST", "/v1/operator/fee", PricesView, body=body)

    async def set_tariff(self, vertical: str, tariff: dict[str, Price], *, from_ms: int | None = None) -> PricesView:
        """Operator: say what subscriptions opened from a moment on pay; None is as early as may be."""
        body = calls.tariffs.SetTariff(id=new_id(), vertical=vertical, tariff=tariff, from_ms=from_ms)
        return await self._call("POST", "/v1/operator/tariff", PricesView, body=body)

    async def set_take(self, said: calls.tokens.SetTake) -> None:
        """Say as an operator what you keep of what others' stake earns."""
        await self._call("POST", "/v1/stake/take", object, body=said)
