"""`fallow checks`: recompute which results were checked."""

from __future__ import annotations

from typing import Annotated

import msgspec
from cyclopts import App, Parameter
from cyclopts.types import ExistingFile

from fallow.cli import profiles
from fallow.cli.order import make_order
from fallow.cli.show import Json, Limit, clean, node_name, say, show_json, table, tell_cut
from fallow.cli.units import when
from fallow.cli.wanted import Options, Wanted
from fallow.domain.rollcall import SHORT
from fallow.domain.verification import CHECKED_VOTES
from fallow.domain.views.checks import RerunView, RollCallView, SeedView
from fallow.sdk.checks import DrawsReport

app = App(name="checks", help="Recompute which results were checked.")


@app.command(name="ls")
def ls(*, json: Json = False) -> None:
    """List epochs of draws, the latest first: what the network committed to, and the seeds of those that are over."""
    with profiles.connect() as client:
        found = client.seeds()
    if json:
        show_json(found)
        return
    table(["EPOCH", "STATE", "OPENED (UTC)", "CLOSED (UTC)"], map(_row, found), empty="Nothing was drawn yet.")


@app.command
def verify(
    number: int,
    /,
    *,
    kept: Annotated[str, Parameter(help="The commitment that you noted before the epoch began.")] = "",
    json: Json = False,
) -> int:
    """Recompute an epoch's draws from its seed, once it is over. Exits with 1 when one does not hold."""
    with profiles.connect() as client:
        report = client.verify_draws(number, kept=kept)
    if json:
        show_json(report)
    elif report.faults:
        say(f"The draws of epoch {number} do NOT hold.")
        for fault in report.faults:
            say(f"- {clean(fault)}")
    else:
        say(f"All {report.draws} draws of epoch {number} come from the seed that was committed to; {report.hits} hit.")
    if not json:
        _say_parts(report)
    return 1 if report.faults else 0


@app.command(name="calls")
def roll_calls(
    *,
    found: Annotated[bool, Parameter(negative="", help="Only those that convicted somebody.")] = False,
    json: Json = False,
) -> None:
    """Show roll calls, the latest first: moments at which machines had to show what they have free, all at once."""
    with profiles.connect() as client:
        calls = client.roll_calls(found=found)
    if json:
        show_json(calls)
        return
    heads = ("AT (UTC)", "KIND", "CALLED", "ANSWERED", "SLOWEST", "FOUND")
    table(heads, map(_call_row, calls), empty="There was none yet.")
    for call in calls:
        for one in call.said:
            if one.node in call.found:
                slow = f", {one.per_mille / 10:.0f} % of what it does alone" if one.per_mille is not None else ""
                say(f"{when(call.at)}  node {node_name(one.node)}: {call.found[one.node]}{slow}")


@app.command
def hints(*, limit: Limit = 200, json: Json = False) -> None:
    """List items that a machine of the same class did again, where nobody compares, the latest first.

    A difference proves nothing: the program may give something else each time. It takes a key that may operate or view.
    """
    with profiles.connect() as client:
        found = client.reruns(limit=limit)
    if json:
        show_json(found)
        return
    columns = ["AT", "PROGRAM", "BOUGHT BY", "FIRST", "AGAIN", "SAID", "SUSPECT"]
    table(columns, map(_rerun, found), empty="Nothing was run again yet.")
    tell_cut(len(found), limit)


@app.command
def plant(program: ExistingFile, /, *inputs: ExistingFile, wanted: Options = None, json: Json = False) -> None:
    """Have a program or script done once for each input, on the network's account, and make canaries of it.

    It must give the same bytes on every machine, and --max-price says what the network pays at most. It takes a key
    that may both buy and operate.
    """
    wanted = wanted or Wanted()
    with profiles.connect() as client:
        order = make_order(client, [str(program)], wanted, items=inputs, quiet=json)
        job = client.plant(msgspec.structs.replace(order, replicas=max(CHECKED_VOTES, order.replicas)))
    show_json(job) if json else say(f"Planted as job {job.id}.")


def _say_parts(report: DrawsReport) -> None:
    if report.parts:
        say(f"The operator and {len(report.parts)} validators made the seed: {', '.join(map(clean, report.parts))}.")
    else:
        say(
            "The operator alone made the seed: he knew beforehand what would be drawn, and chose none of it afterwards."
        )
    for validator in report.silent:
        say(f"Validator {clean(validator)} pledged a part and showed none before the epoch began.")


def _rerun(found: RerunView) -> tuple[object, ...]:
    said = "the same" if found.same else "something else"
    nodes, suspects = map(node_name, found.nodes), ", ".join(map(node_name, found.suspects))
    return (when(found.at), found.program[:12], found.account, *nodes, said, suspects)


def _call_row(call: RollCallView) -> tuple[object, ...]:
    rates = [one.per_mille for one in call.said if one.per_mille is not None]
    answered = sum(one.reason in {"", SHORT} for one in call.said)
    slowest = f"{min(rates) / 10:.0f} %" if rates else ""
    return when(call.at), call.kind, len(call.said), answered, slowest, len(call.found)


def _row(seed: SeedView) -> tuple[object, ...]:
    state = "over" if seed.closed_at is not None else "open" if seed.opened_at is not None else "committed"
    return (
        seed.number,
        state,
        *(when(at) if at is not None else "" for at in (seed.opened_at, seed.closed_at)),
    )
