"""`fallow reserve`."""

from __future__ import annotations

from fallow.cli import profiles
from fallow.cli.show import Json, credit_name, show_json, table
from fallow.cli.units import usd


def reserve(*, json: Json = False) -> None:
    """Show what the reserve holds, and whom it paid for what: lost work to providers, undecided results to buyers."""
    with profiles.connect() as client:
        view = client.reserve()
    if json:
        show_json(view)
        return
    purse = view.purse
    rows = [
        (credit_name(name), usd(purse.paid_in[name]), usd(purse.paid_out[name]), usd(purse.balance[name]))
        for name in purse.balance
    ]
    table(["CREDITS", ">PAID IN", ">PAID OUT", ">LEFT"], rows, empty="")
    uses = [
        (use.account, use.reason, use.leases, usd(use.made_good_microusd), usd(use.refunded_microusd))
        for use in view.uses
    ]
    columns = ["MACHINES OF", "WHY THE WORK ENDED", ">LEASES", ">TO HIM", ">TO BUYERS"]
    table(columns, uses, empty="It has paid for nothing yet.")
