"""What an account should look at, and where it is told of that."""

from __future__ import annotations

from typing import Annotated, Literal

from litestar import delete, get, post
from litestar.params import JSONBody, PathParameter, QueryParameter

from fallow.domain import calls
from fallow.domain.views.alerts import AlertView, ChannelsView, ChannelView
from fallow.http.answers import keyed
from fallow.http.auth import holder
from fallow.http.params import Account, Parts
from fallow.ports.account_alerts import alerts_of, tellers
from fallow.ports.alert_text import sentence
from fallow.ports.rpc import Empty

Kind = Annotated[Literal["email", "webhook"], PathParameter(description="email or webhook.")]
In = Annotated[Literal["en", "ja"], QueryParameter(description="The language of the sentences.")]


@get("/v1/account/alerts", guards=[holder], responses=keyed(), tags=["account"])
async def alerts(gateway: Parts, payer: Account, language: In = "en") -> list[AlertView]:
    """What you should look at now: your machines, where earnings go, your jobs and credits."""
    known = await alerts_of(gateway.bus, payer, gateway.clock.now_ms(), tellers(gateway.verticals.values()))
    return [
        AlertView(
            id=one.id,
            code=one.code,
            subject=one.subject,
            name=one.name,
            text=sentence(one, language),
            values=one.values,
        )
        for one in known.and_silent()
    ]


@get("/v1/account/alerts/to", guards=[holder], responses=keyed(), tags=["account"])
async def channels(gateway: Parts, payer: Account) -> ChannelsView:
    """Where you are told of them, and what went wrong there."""
    return await gateway.ask(calls.alerts.ALERT_CHANNELS, calls.base.AccountRef(account=payer), ChannelsView)


@post("/v1/account/alerts/to/{kind:str}", guards=[holder], responses=keyed(409, 413), tags=["account"])
async def set_channel(gateway: Parts, payer: Account, kind: Kind, data: JSONBody[calls.alerts.AlertsTo]) -> ChannelView:
    """Be told by mail or webhook, once the address is confirmed. A webhook's secret is in this answer only."""
    return await gateway.ask(
        calls.alerts.SET_CHANNEL, calls.alerts.SetChannel(account=payer, kind=kind, to=data), ChannelView
    )


@post("/v1/account/alerts/confirm", guards=[holder], status_code=200, responses=keyed(404), tags=["account"])
async def confirm(gateway: Parts, payer: Account, data: JSONBody[calls.alerts.AlertsCode]) -> ChannelView:
    """Give the code that came by mail."""
    request = calls.alerts.ConfirmChannel(account=payer, kind="email", code=data.code)
    return await gateway.ask(calls.alerts.CONFIRM_CHANNEL, request, ChannelView)


@delete("/v1/account/alerts/to/{kind:str}", guards=[holder], responses=keyed(), tags=["account"])
async def end_channel(gateway: Parts, payer: Account, kind: Kind) -> None:
    """Be told there no more."""
    await gateway.ask(calls.alerts.END_CHANNEL, calls.alerts.ChannelRef(account=payer, kind=kind), Empty)


ROUTES = [alerts, channels, set_channel, confirm, end_channel]
