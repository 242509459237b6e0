"""What an account should look at, and where it is told of that."""

from __future__ import annotations

from typing import Literal

from fallow.domain import calls
from fallow.domain.views.alerts import AlertView, ChannelsView, ChannelView
from fallow.sdk.wire import Wire, arguments

Way = Literal["email", "webhook"]


class AlertCalls(Wire):
    """What whoever provides or buys asks about his alerts."""

    async def alerts(self, language: Literal["en", "ja"] = "en") -> list[AlertView]:
        """Return those of your account now."""
        return await self._call("GET", "/v1/account/alerts", list[AlertView], query=arguments(language=language))

    async def alert_channels(self) -> ChannelsView:
        """Return where you are told of them."""
        return await self._call("GET", "/v1/account/alerts/to", ChannelsView)

    async def set_alert_channel(self, way: Way, to: calls.alerts.AlertsTo) -> ChannelView:
        """Be told there, once that is confirmed. The secret of a webhook is in this answer and in no other.

        Raises:
            InvalidInput: it is no address of that kind.
            Conflict: the operator has set no mail server (`alerts.no_mail`).
            TooMuch: addresses were asked too often today.
        """
        return await self._call("POST", f"/v1/account/alerts/to/{way}", ChannelView, body=to, again=False)

    async def confirm_alerts(self, code: str) -> ChannelView:
        """Give the code that came by mail.

        Raises:
            NotFound: your account names no mail address.
            NotAllowed: it is not the code, or too old.
        """
        body = calls.alerts.AlertsCode(code=code)
        return await self._call("POST", "/v1/account/alerts/confirm", ChannelView, body=body, again=False)

    async def end_alert_channel(self, way: Way) -> None:
        """Be told there no more."""
        await self._call("DELETE", f"/v1/account/alerts/to/{way}", object)
