"""`fallow subscription`: shared services that are used by the meter."""

from __future__ import annotations

import re
from typing import Annotated

from cyclopts import App, Parameter

from fallow.cli import profiles
from fallow.cli.show import Json, say, show_json, table
from fallow.cli.units import microusd, usd, when
from fallow.domain.calls.subscriptions import OpenSubscription
from fallow.domain.errors import InvalidInput
from fallow.sdk.accounts import new_id

app = App(name="subscription", help="Use shared services by the meter.")

_ID = re.compile("[0-9a-f]{32}")


@app.command(name="open")
def open_(
    vertical: str,
    /,
    *,
    limit: Annotated[str, Parameter(help="US dollars that an hour of it may cost at most; they are reserved.")],
    label: Annotated[str, Parameter(help="Name for your bills.")] = "",
    json: Json = False,
) -> None:
    """Open a subscription to a service of the network, such as storage. It goes on at its prices until you close it."""
    wanted = OpenSubscription(id=new_id(), vertical=vertical, limit_microusd=microusd(limit, 1), label=label)
    with profiles.connect() as client:
        view = client.subscribe(wanted)
        meters = [one for one in client.network().meters if one.vertical == vertical]
    if json:
        show_json(view)
        return
    say(f"Subscription {view.id} to {view.vertical} is open: at most {usd(view.limit_microusd)} an hour.")
    for one in meters:
        price = view.tariff[one.meter]
        amount = usd(price.microusd * one.unit_per // price.per)
        say(f"As long as it goes on it pays {amount} for {one.unit.get('en', f'{one.unit_per:,} {one.meter}')}.")


@app.command(name="ls")
def list_(*, json: Json = False) -> None:
    """List your subscriptions."""
    with profiles.connect() as client:
        found = client.subscriptions()
    if json:
        show_json(found)
        return
    rows = [
        (
            one.id,
            one.vertical,
            one.label,
            f"{one.state} ({one.reason})" if one.reason else one.state,
            when(one.opened_at),
            usd(one.limit_microusd),
            usd(one.owed_microusd),
            usd(one.settled_microusd),
        )
        for one in found
    ]
    columns = ["ID", "OF", "LABEL", "STATE", "SINCE (UTC)", ">LIMIT", ">THIS WINDOW", ">PAID"]
    table(columns, rows, empty="You have none. To open one: fallow subscription open VERTICAL --limit USD")


@app.command
def close(subscription_id: str, /, *, json: Json = False) -> None:
    """Close a subscription: what was used is paid, and the rest of what it reserved is yours again."""
    if not _ID.fullmatch(subscription_id):
        raise InvalidInput("subscription.id", "This is no subscription's id.", "fallow subscription ls shows them")
    with profiles.connect() as client:
        view = client.unsubscribe(subscription_id)
    if json:
        show_json(view)
    else:
        say(f"Subscription {view.id} is closed. It cost {usd(view.settled_microusd)} in all.")
