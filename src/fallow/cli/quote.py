"""`fallow quote`."""

from __future__ import annotations

from fallow.cli import profiles
from fallow.cli.obstacles import say_why_not
from fallow.cli.order import make_order
from fallow.cli.show import Json, node_name, quote_line, say, show_json, table
from fallow.cli.units import usd
from fallow.cli.wanted import Options, Wanted


def quote(*command: str, wanted: Options = None, json: Json = False) -> int:
    """Show what a program would cost and where it could run; nothing is bought. Its words are those of `fallow run`."""
    wanted = wanted or Wanted()
    with profiles.connect() as client:
        order = make_order(client, command, wanted, quiet=json)
        view = client.quote(order, secrets=wanted.secrets)
    if json:
        show_json(view)
        return 0
    say(quote_line(view))
    if view.candidates:
        rows = [
            (node_name(c.node), usd(c.price_microusd_per_hour), c.trust, c.country, c.cell) for c in view.candidates
        ]
        table(["NODE", ">PER HOUR", "TRUST", "COUNTRY", "CELL"], rows, empty="")
    say_why_not(view, order)
    say(view.plain_data)
    return 0
