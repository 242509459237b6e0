"""`fallow balance`, `fallow nodes`."""

from __future__ import annotations

from fallow.cli import profiles
from fallow.cli.show import Json, credit_name, node_name, say, show_json, table
from fallow.cli.units import usd, when
from fallow.domain.resources import Resources
from fallow.domain.views import BalanceView, NodeView

GIB_MIB = 1024


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
        "TRUST",
        ">LEASES",
        "SEEN (UTC)",
    ]
    table(
        columns, map(_node, found), empty="No machine has joined yet. An operator's `fallow token new` lets one join."
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
    free, total = _size(node.free), _size(node.total)
    return (
        node_name(node.node),
        node.label,
        node.state,
        free,
        total,
        price,
        node.country,
        node.trust,
        node.leases,
        seen,
    )


def _size(resources: Resources | None) -> str:
    if resources is None:
        return ""
    gpus = f", {resources.gpus} GPUs" if resources.gpus else ""
    return f"{resources.cpu_milli / 1000:g} cores, {resources.memory_mib / GIB_MIB:.1f} GiB{gpus}"
