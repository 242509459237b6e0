"""`fallow job why`."""

from __future__ import annotations

from collections.abc import Iterator

from fallow.cli import profiles
from fallow.cli.evidence import say_evidence
from fallow.cli.obstacles import say_why_not
from fallow.cli.show import Json, job_lines, lease_name, node_name, say, show_json, table
from fallow.cli.units import usd, used
from fallow.domain.jobs import ItemState
from fallow.domain.matching import BUSY
from fallow.domain.orders import Order
from fallow.domain.views.jobs import ItemView, LeaseView, QuoteView
from fallow.sdk.sync import Client

WAITING = "no node has been found for it yet"


def why(job_id: str, /, *, json: Json = False) -> None:
    """Say why a job waits or failed: what turns machines away, what became of each lease and who ended it."""
    with profiles.connect() as client:
        job, order = client.job(job_id), client.order(job_id)
        items = [item for item in client.all_items(job_id) if item.state != ItemState.DONE]
        leases = list(client.all_leases(job_id))
        evidence = client.job_evidence(job_id)
        quote = _quote(client, order, items)
    if json:
        found = {"job": job, "order": order, "items": items, "leases": leases, "evidence": evidence, "quote": quote}
        show_json(found)
        return
    for line in job_lines(job):
        say(line)
    if quote is not None:
        _say_why_it_waits(quote, order)
    if items:
        rows = [(item.index, item.state, item.attempts, _reason(item)) for item in items]
        table([">ITEM", "STATE", ">TRIES", "WHY"], rows, empty="")
    columns = ["LEASE", ">ITEM", "NODE", "STATE", ">USED", ">OWED", "ENDED BY", "WHY", "RECEIPT", "BESIDES"]
    table(columns, map(_lease, leases), empty="No node was asked yet.")
    if evidence:
        say("Refused results, which nobody pays:")
        say_evidence(evidence)


def _quote(client: Client, order: Order, items: list[ItemView]) -> QuoteView | None:
    """Where the order could run now, if something of it waits."""
    return client.quote(order) if any(item.state == ItemState.WAITING for item in items) else None


def _say_why_it_waits(quote: QuoteView, order: Order) -> None:
    say(_where_it_stands(quote))
    say_why_not(quote, order)


def _where_it_stands(quote: QuoteView) -> str:
    if quote.candidates:
        return f"{len(quote.candidates)} of {quote.nodes_total} machines can take it now."
    if busy := quote.why_not.get(BUSY, 0):
        return f"{busy} of {quote.nodes_total} machines fit and are busy: it begins when one is free."
    return f"None of {quote.nodes_total} machines can take it."


def _reason(item: ItemView) -> str:
    return item.reason or (WAITING if item.state == ItemState.WAITING else "")


def _lease(lease: LeaseView) -> tuple[object, ...]:
    by = lease.caused_by if lease.ended_at is not None else ""
    cost = used(lease.running_ms or lease.used_ms), usd(lease.owed_microusd)
    why = lease.reason, lease.receipt, ", ".join(_besides(lease))
    return (lease_name(lease.id), lease.item, node_name(lease.node), lease.state, *cost, by, *why)


def _besides(lease: LeaseView) -> Iterator[str]:
    """Money of a lease beyond what is owed for its use."""
    if lease.unbacked_microusd:
        yield f"{usd(lease.unbacked_microusd)} kept until a checkpoint or the end"
    if lease.refunded_microusd:
        yield f"{usd(lease.refunded_microusd)} back from the reserve"
    if lease.made_good_microusd:
        yield f"{usd(lease.made_good_microusd)} from the reserve to the provider"
    if lease.reserve_short:
        yield f"not all: {lease.reserve_short}"
