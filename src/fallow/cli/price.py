"""`fallow price`: what burned tokens are credited at, what the network keeps of prices, what is paid by the meter."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated

from cyclopts import App, Parameter

from fallow.cli import profiles
from fallow.cli.account_key import KeyFile, default_file
from fallow.cli.show import Json, say, show_json, table, tell
from fallow.cli.units import PERCENT_PPM, microusd, moment, percent, ppm, usd, when
from fallow.domain.billing import PPM
from fallow.domain.calls.tokens import ReportPrice
from fallow.domain.errors import InvalidInput
from fallow.domain.fees import FEE_MAX_PPM
from fallow.domain.price_facts import price_text
from fallow.domain.subscriptions import Price
from fallow.domain.views.prices import MeterPriceView, PricesView, PriceView, TariffView

app = App(
    name="price",
    help="The token's price, at which burned tokens become credits; the network's fee; and what shared services cost.",
)


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


@app.command
def fee(
    *,
    fee: Annotated[str, Parameter(help="What the network keeps of what buyers pay, in percent; at most 50.")] = "",
    reserve: Annotated[str, Parameter(help="What of the fee goes to the reserve, in percent.")] = "",
    from_: Annotated[
        str, Parameter(name="--from", help="When it begins to hold, in UTC; else as early as may be.")
    ] = "",
    json: Json = False,
) -> None:
    """Show the network's fee, or set it. More than now holds in a day at the earliest. For the operator."""
    with profiles.connect() as client:
        view, from_ms = client.prices(), moment(from_) if from_ else None
        if fee or reserve:
            view = client.set_fee(
                ppm(fee, "a fee", FEE_MAX_PPM // PERCENT_PPM) if fee else view.fee_ppm,
                ppm(reserve, "a share") if reserve else view.reserve_ppm,
                from_ms=from_ms,
            )
        elif from_:
            raise InvalidInput("price.fee", "A moment alone sets no fee.", "Add --fee, --reserve or both.")
        _show_fee(view, as_json=json)
        _tell_what_waits(from_ms, [view.next_fee.from_ms] if view.next_fee else [])


@app.command
def tariff(
    vertical: Annotated[str, Parameter(help="The vertical whose tariff is set, such as storage.")] = "",
    /,
    *prices: Annotated[str, Parameter(help="METER=USD, for what the list names; others stay as they are.")],
    from_: Annotated[
        str, Parameter(name="--from", help="When it begins to hold, in UTC; else as early as may be.")
    ] = "",
    json: Json = False,
) -> None:
    """Show what shared services cost by the meter, or set it for new subscriptions. For the operator.

    Who has a subscription keeps its prices. Less than now holds in a day at the earliest: owners earn by it.
    """
    with profiles.connect() as client:
        if prices:
            from_ms, said = moment(from_) if from_ else None, _tariff(client.prices(), vertical, prices)
            view = client.set_tariff(vertical, said, from_ms=from_ms)
            _show_tariffs(view.meters, view.next_tariffs, as_json=json)
            _tell_what_waits(from_ms, [one.from_ms for one in view.next_tariffs if one.vertical == vertical])
        elif vertical or from_:
            raise InvalidInput(
                "price.tariff", "No price is named.", "For example: fallow price tariff storage stored_byte_hours=1.75"
            )
        else:
            network = client.network()  # which anybody may ask
            _show_tariffs(network.meters, network.next_tariffs, as_json=json)


def _tariff(view: PricesView, vertical: str, prices: Iterable[str]) -> dict[str, Price]:
    """Return the whole tariff: prices that are set, in people's units, and those of now."""
    now = {one.meter: one for one in view.meters if one.vertical == vertical}
    said = {meter: Price(microusd=one.microusd, per=one.per) for meter, one in now.items()}
    for each in prices:
        meter, equals, amount = each.partition("=")
        if meter not in now or not equals:
            known = ", ".join(f"{one.vertical} {one.meter}" for one in view.meters) or "none"
            raise InvalidInput(
                "price.meter", f"{each!r} names no meter of {vertical} and its price.", f"Known: {known}"
            )
        said[meter] = Price(microusd=microusd(amount), per=now[meter].unit_per)
    return said


def _show_tariffs(meters: list[MeterPriceView], later: list[TariffView], *, as_json: bool) -> None:
    if as_json:
        show_json({"meters": meters, "next_tariffs": later})
        return
    rows = [("now", *_meter(one)) for one in meters]
    rows += [(f"from {when(each.from_ms)}", *_meter(one)) for each in later for one in each.meters]
    table(["HOLDS (UTC)", "VERTICAL", "METER", "FOR", ">PRICE"], rows, empty="Nothing is sold by the meter here.")


def _tell_what_waits(said_ms: int | None, next_ms: Iterable[int]) -> None:
    """Tell who said what holds from a later moment on that what was said before still holds until then."""
    if said_ms is not None and any(each < said_ms for each in next_ms):
        tell(f"From {when(said_ms)} UTC what you said holds. What was said before and begins sooner stays until then;")
        tell("to withdraw that, say again what holds now, without --from.")


def _meter(one: MeterPriceView) -> tuple[str, str, str, str]:
    return one.vertical, one.meter, one.unit.get("en", f"{one.unit_per:,}"), usd(one.microusd * one.unit_per // one.per)


def _show_fee(view: PricesView, *, as_json: bool) -> None:
    if as_json:
        show_json(view)
        return
    say(f"Now {_fee_text(view.fee_ppm, view.reserve_ppm)}")
    if view.next_fee is not None:
        say(f"From {when(view.next_fee.from_ms)} UTC {_fee_text(view.next_fee.fee_ppm, view.next_fee.reserve_ppm)}")


def _fee_text(fee_ppm: int, reserve_ppm: int) -> str:
    """What it means for an owner's dollar."""
    return (
        f"the network keeps {percent(fee_ppm)} of what buyers pay: of a dollar an owner has {usd(PPM - fee_ppm)}; "
        f"{percent(reserve_ppm)} of the fee goes to the reserve."
    )


def _show(view: PriceView, *, as_json: bool) -> None:
    if as_json:
        show_json(view)
        return
    say(f"{usd(view.price_microusd)} a token" if view.price_microusd is not None else f"There is no price: {view.why}")
    rows = [(one.feed, usd(one.price_microusd), usd(one.doubt_microusd), when(one.at)) for one in view.quotes]
    table(["FEED", ">SAYS", ">IN DOUBT BY", "AT"], rows, empty="No feed has said anything.")
    if view.waiting:
        tell(f"Burns that wait for a price: {view.waiting}. None is lost.")
