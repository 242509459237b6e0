"""`fallow balance`, `fallow nodes`."""

from __future__ import annotations

from fallow.cli import profiles
from fallow.cli.show import Json, credit_name, node_name, say, show_json, table
from fallow.cli.units import size, usd, when
from fallow.domain.views.money import BalanceView
from fallow.domain.views.nodes import NodeView


def balance(*, json: Json = False) -> None:
    """Show your credits."""
    with profiles.connect() as client:
        view = client.balance()
    show_balance(view, as_json=json)


def nodes(*, json: Json = False) -> None:
    """List the machines of the network."""
    with profiles.connect() as client:
        found = client.nodes()
    if json:
        show_json(found)
        return
    columns = [
        "NODE",
        "LABEL",
        "STATE",
        ">FREE",
        ">TOTAL",
        ">PER CORE AND HOUR",
        "COUNTRY",
        "CELL",
        "TRUST",
        ">LEASES",
        "SEEN (UTC)",
    ]
    table(
        columns,
        map(_node, found),
        empty="No machine offers anything now. An operator's `fallow token new` lets one join.",
    )


def show_balance(view: BalanceView, *, as_json: bool) -> None:
    """Print an account's credits."""
    if as_json:
        show_json(view)
        return
    say(f"Account {view.account}")
    parts = (view.spendable, view.reserved, view.earned, view.kept)
    classes = sorted({name for part in parts for name in part})
    rows = [(credit_name(name), *(usd(part.get(name, 0)) for part in parts)) for name in classes]
    table(["CREDITS", ">SPENDABLE", ">RESERVED", ">EARNED", ">KEPT"], rows, empty="No credits yet.")
    if any(view.kept.values()):
        say("What is kept was paid for unfinished work: it is earned with a checkpoint, or when the work is done.")


def _node(node: NodeView) -> tuple[object, ...]:
    price = usd(node.terms.price_microusd_per_core_hour) if node.terms else ""
    seen = when(node.last_seen_at)
    free, total = size(node.free), size(node.total)
    return (
        node_name(node.node),
        node.label,
        node.state,
        free,
        total,
        price,
        node.country,
        node.cell,
        node.trust,
        node.leases,
        seen,
    )
