"""`fallow bill` and `fallow statement`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated

from cyclopts import Parameter

from fallow.cli import profiles
from fallow.cli.show import Json, credit_name, lease_name, say, show_json, table
from fallow.cli.units import seconds, usd, when
from fallow.sdk.bills import Bill, Line, Sum

PLAY_MONEY = (
    "Paid in TEST credits, on a test network: play money at prices that nobody had to live on. "
    "It says nothing of what this work would cost for real."
)

WORDS = {
    "lost": "lost work, from the reserve",
    "refund": "refund, from the reserve",
    "returned": "returned: of no use to you",
}
"""What movements are called that a person would not understand otherwise."""


def bill(
    job_id: Annotated[str | None, Parameter(help="This job alone, whenever it was ordered.")] = None,
    /,
    *,
    since: Annotated[str, Parameter(help="Jobs ordered in this time until now: 12h, 30d.")] = "30d",
    json: Json = False,
) -> None:
    """Show what your jobs cost, what they delivered, and what the same would have cost elsewhere.

    What was paid includes replicas that you ordered, restarts and failures; only work that is done counts as delivered.
    """
    since_ms = int((datetime.now(UTC).timestamp() - seconds(since)) * 1000)
    with profiles.connect() as client:
        found = client.bill(job_id, since_ms=since_ms)
    if json:
        show_json(found)
        return
    rows = map(_line, found.lines)
    columns = ["DAY", "JOB", "LABEL", "STATE", ">DONE", ">DELIVERED", ">PAID", "RECEIPT"]
    table(columns, rows, empty="Nothing was ordered in this time.")
    for name, sums in (("DAY", found.days), ("LABEL", found.labels)):
        if len(sums) > 1:
            table([name, ">JOBS", ">DELIVERED", ">PAID"], map(_sum, sums), empty="")
    for line in total_lines(found):
        say(line)
    if found.elsewhere:
        columns = ["ELSEWHERE", "KIND", ">THE SAME COSTS", "AS OF", "SOURCE"]
        rows_elsewhere = [(o.name, o.kind, usd(o.cost_microusd), o.as_of, o.source) for o in found.elsewhere]
        table(columns, rows_elsewhere, empty="")


def statement(
    *,
    after: Annotated[str, Parameter(help="Only what came after the movement with this id (--json shows ids).")] = "",
    limit: Annotated[int | None, Parameter(help="How many at most; all of them when left out.")] = None,
    json: Json = False,
) -> None:
    """List what came in and what was paid, the oldest first. TEST credits are backed by nothing."""
    with profiles.connect() as client:
        lines = list(islice(client.all_movements(after=after), limit if limit is None else max(0, limit)))
    if json:
        show_json(lines)
        return
    rows = [
        (
            when(line.at),
            WORDS.get(line.kind, line.kind),
            credit_name(line.credit_class),
            usd(line.amount_microusd),
            usd(line.held_microusd) if line.held_microusd else "",
            lease_name(line.ref),
        )
        for line in lines
    ]
    columns = ["WHEN (UTC)", "WHAT", "CREDITS", ">AMOUNT", ">RESERVED", "LEASE"]
    table(columns, rows, empty="Nothing has come in or been paid yet.")


def total_lines(found: Bill) -> Iterator[str]:
    """Say what was paid and for what, and what kind of money that was."""
    rate = found.microusd_per_core_hour
    each = f", {usd(rate)} per core and hour" if rate is not None else ""
    gpus = "".join(f", {gpu_s:,.1f} {model or 'GPU'}-seconds" for model, gpu_s in found.gpu_s.items())
    yield f"Paid {usd(found.owed_microusd)} for {_core_s(found.core_s)}{gpus} delivered{each}; nothing else is added."
    if refunded := sum(line.refunded_microusd for line in found.lines):
        yield f"The reserve gave {usd(refunded)} back for results that decided nothing; that is not in what you paid."
    if found.test:
        yield PLAY_MONEY


def _line(line: Line) -> tuple[object, ...]:
    paid = _core_s(line.core_s), usd(line.owed_microusd)
    return (line.day, line.job, line.label, line.state, line.items_done, *paid, line.receipt)


def _sum(total: Sum) -> tuple[object, ...]:
    return (total.name or "(none)", total.jobs, _core_s(total.core_s), usd(total.owed_microusd))


def _core_s(core_s: float) -> str:
    return f"{core_s:,.1f} core-seconds"
