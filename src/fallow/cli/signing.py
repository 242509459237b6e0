"""`fallow key signing`: keys that sign for you."""

from __future__ import annotations

from cyclopts import App

from fallow.cli import profiles
from fallow.cli.show import Json, say, show_json, table
from fallow.cli.units import when

app = App(name="signing", help="Keys that sign orders and receipts for you; `fallow login` makes them.")


@app.command(name="ls")
def list_(*, json: Json = False) -> None:
    """List the keys that sign for your account."""
    with profiles.connect() as client:
        found = client.delegations()
    if json:
        show_json(found)
        return
    rows = [(each.key, when(each.issued_at), when(each.expires_at), when(each.revoked_at)) for each in found]
    table(["KEY", "SINCE (UTC)", "UNTIL (UTC)", "REVOKED (UTC)"], rows, empty="No key signs for you: fallow login")


@app.command
def revoke(key: str, /, *, json: Json = False) -> None:
    """End a key's right to sign for you. What it signed until then stays signed."""
    with profiles.connect() as client:
        ended = client.revoke_delegation(key)
    show_json(ended) if json else say(f"Key {ended.key} signs for you no more.")
