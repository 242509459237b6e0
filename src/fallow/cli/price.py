"""`fallow price`: what burned tokens are credited at."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from cyclopts import App, Parameter

from fallow.cli import profiles
from fallow.cli.account_key import KeyFile, default_file
from fallow.cli.show import Json, say, show_json, table, tell
from fallow.cli.units import microusd, usd, when
from fallow.domain.calls.tokens import ReportPrice
from fallow.domain.price_facts import price_text
from fallow.domain.views.prices import PriceView

app = App(name="price", help="The token's price, at which burned tokens become credits.")


@app.command
def show(*, json: Json = False) -> None:
    """Show the price that holds and what each feed says, or why there is none."""
    with profiles.connect() as client:
        _show(client.price(), as_json=json)


@app.command
def report(
    price: str,
    /,
    *,
    doubt: Annotated[
        str, Parameter(help="By how much it may be wrong, in USD: it counts as lower by twice that.")
    ] = "0",
    key: KeyFile = None,
    json: Json = False,
) -> None:
    """Say what one token is worth, in USD. Only the word of feeds that the operator has named counts."""
    from fallow.bootstrap.account_key import signed_text  # noqa: PLC0415 - not installed with every part of Fallow

    worth, unsure = microusd(price, least=1), microusd(doubt)
    now = int(datetime.now(UTC).timestamp() * 1000)
    with profiles.connect() as client:
        text = price_text(client.network().net, worth, unsure, now)
        signature = "0x" + signed_text(key or default_file(), text).hex()
        told = ReportPrice(price_microusd=worth, doubt_microusd=unsure, at_ms=now, signature=signature)
        _show(client.report_price(told), as_json=json)


@app.command
def accept(price: str, /, *, json: Json = False) -> None:
    """Let the price go on from here, in USD, after a jump that you have looked at. For the operator."""
    with profiles.connect() as client:
        _show(client.accept_price(microusd(price, least=1)), as_json=json)


def _show(view: PriceView, *, as_json: bool) -> None:
    if as_json:
        show_json(view)
        return
    say(f"{usd(view.price_microusd)} a token" if view.price_microusd is not None else f"There is no price: {view.why}")
    rows = [(one.feed, usd(one.price_microusd), usd(one.doubt_microusd), when(one.at)) for one in view.quotes]
    table(["FEED", ">SAYS", ">IN DOUBT BY", "AT"], rows, empty="No feed has said anything.")
    if view.waiting:
        tell(f"Burns that wait for a price: {view.waiting}. None is lost.")
