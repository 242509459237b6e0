"""`fallow account alerts`: what to look at, and where you are told of it."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from fallow.cli import profiles
from fallow.cli.show import Json, node_name, say, show_json, table
from fallow.cli.units import when
from fallow.domain.calls.alerts import AlertsTo
from fallow.domain.errors import InvalidInput
from fallow.domain.views.alerts import AlertView, ChannelsView, ChannelView
from fallow.sdk.sync import Client

Language = Annotated[Literal["en", "ja"], Parameter(help="Of what is written: English or Japanese.")]


def alerts(
    *,
    email: Annotated[str, Parameter(help="Be told at this address; a code comes there first.")] = "",
    webhook: Annotated[str, Parameter(help="Be told by a POST to this https URL; it has to answer a challenge.")] = "",
    language: Language = "en",
    confirm: Annotated[str, Parameter(help="The code that came by mail.")] = "",
    off: Annotated[Literal["email", "webhook"] | None, Parameter(help="Be told so no more.")] = None,
    json: Json = False,
) -> None:
    """Show your alerts and where you are told of them, or change where."""
    if sum(map(bool, (email, webhook, confirm, off))) > 1:
        raise InvalidInput("account.alerts", "One of --email, --webhook, --confirm and --off at a time.")
    with profiles.connect() as client:
        changed = _changed(client, email, webhook, language, confirm)
        if off is not None:
            client.end_alert_channel(off)
        now, told = client.alerts(language), client.alert_channels()
    if json:
        show_json({"alerts": now, **({"set": changed} if changed else {}), "to": told})
        return
    if changed is not None:
        _say_next(changed)
    table(["ABOUT", "NAME", "ALERT"], map(_alert, now), empty="Nothing needs your attention.")
    _say_told(told)


def _changed(client: Client, email: str, webhook: str, language: Language, confirm: str) -> ChannelView | None:
    if email:
        return client.set_alert_channel("email", AlertsTo(address=email, language=language))
    if webhook:
        return client.set_alert_channel("webhook", AlertsTo(address=webhook, language=language))
    return client.confirm_alerts(confirm) if confirm else None


def _say_next(changed: ChannelView) -> None:
    if changed.secret:
        say(f"Its deliveries are signed with this secret, which is not shown again: {changed.secret}")
    if changed.kind == "email" and not changed.confirmed:
        say("A code is on its way there: fallow account alerts --confirm CODE")


def _alert(view: AlertView) -> tuple[object, ...]:
    return node_name(view.subject) if view.subject else "account", view.name, view.text


def _say_told(told: ChannelsView) -> None:
    for one in told.channels:
        state = "confirmed" if one.confirmed else "not confirmed yet"
        say(f"Told by {one.kind} at {one.address} ({state}).")
        if one.failed_at is not None:
            say(f"  Failed at {when(one.failed_at)} UTC, {one.waiting} waiting: {one.failure_code}: {one.failure}")
    if not told.channels:
        ways = "--email ADDRESS or --webhook URL" if told.mail else "--webhook URL"
        say(f"You are told nowhere: fallow account alerts {ways}")
    if not told.mail:
        say("No mails: this network's operator has set no mail server.")
