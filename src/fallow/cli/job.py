"""`fallow job`."""

from __future__ import annotations

import asyncio
import json as jsonlib
import sys
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter, validators

from fallow.cli import profiles
from fallow.cli.collect import collect
from fallow.cli.show import Json, bill_line, fields, item_counts, job_lines, node_name, say, show_json, table, tell
from fallow.cli.units import usd, used, when
from fallow.cli.wanted import Many, secret_values
from fallow.domain.errors import InvalidInput
from fallow.domain.jobs import JobState
from fallow.domain.views.jobs import JobView
from fallow.ports.tasks import first_error
from fallow.sdk.client import AsyncClient
from fallow.sdk.trust import trusting

INPUT_CHARACTERS = 12
PORT_MAX = 65_535

app = App(name="job", help="Look at your jobs, or end them.")


app.command("fallow.cli.why:why", name="why", help="Say why a job waits or failed, lease by lease.")


@app.command(name="ls")
def list_(
    *,
    state: Annotated[
        Literal["running", "done", "failed", "cancelled"] | None, Parameter(help="Only jobs in this state.")
    ] = None,
    label: Annotated[str, Parameter(help="Only jobs with this label.")] = "",
    limit: Annotated[int, Parameter(help="How many at most.")] = 50,
    json: Json = False,
) -> None:
    """List your jobs, the latest first."""
    with profiles.connect() as client:
        found = (job for job in client.all_jobs() if state in {None, job.state} and label in {"", job.label})
        jobs = list(islice(found, max(0, limit)))
    if json:
        show_json(jobs)
        return
    columns = ["JOB", "STATE", "CREATED (UTC)", "ITEMS", ">USED", ">OWED", "LABEL"]
    table(columns, map(_row, jobs), empty="There are no such jobs. `fallow run PROGRAM.wasm` makes one.")


@app.command
def status(job_id: str, /, *, json: Json = False) -> None:
    """Show one job."""
    with profiles.connect() as client:
        job = client.job(job_id)
    _show(job, as_json=json)


@app.command
def items(
    job_id: str,
    /,
    *,
    after: Annotated[int, Parameter(help="Only items above this number.")] = -1,
    limit: Annotated[int, Parameter(help="How many at most.")] = 200,
    json: Json = False,
) -> None:
    """List a job's items and the hashes of their results."""
    with profiles.connect() as client:
        found = client.items(job_id, after=after, limit=limit)
    if json:
        show_json(found)
        return
    rows = [
        (
            item.index,
            item.state,
            item.attempts,
            node_name(item.node),
            item.trust,
            used(item.used_ms + item.running_ms),
            usd(item.owed_microusd),
            item.reason,
        )
        for item in found
    ]
    table(
        [">ITEM", "STATE", ">TRIES", "NODE", "TRUST", ">USED", ">OWED", "REASON"], rows, empty="No items from there on."
    )


@app.command
def logs(
    job_id: str,
    item: int = 0,
    /,
    *,
    follow: Annotated[bool, Parameter(name=["--follow", "-f"], negative=())] = False,
    stderr: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Print what an item writes while it runs, or wrote.

    Args:
        job_id: the job.
        item: which item of a map.
        follow: go on until it ends.
        stderr: its errors instead of its output.
    """
    with profiles.connect() as client:
        for piece in client.logs(job_id, item, source="stderr" if stderr else "stdout", follow=follow):
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()


@app.command
def forward(
    job_id: str,
    port: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=PORT_MAX))],
    /,
    *,
    item: int = 0,
    local: Annotated[
        int,
        Parameter(help="Port of this machine; 0 takes a free one.", validator=validators.Number(gte=0, lte=PORT_MAX)),
    ] = 0,
    verbose: Annotated[bool, Parameter(negative="", help="Say of each connection which way its bytes go.")] = False,
    json: Json = False,
) -> None:
    """Let a port of this machine, on loopback, lead to a port that a running item listens on. Ctrl-C ends it.

    Args:
        job_id: the job.
        port: what the program listens on, on its own 127.0.0.1.
        item: which item of a map.
        local: port of this machine; 0 takes a free one.
        verbose: say of each connection which way its bytes go: direct to the machine, or relayed by the network.
        json: print one JSON value a line: where it listens, then the way of each connection.
    """
    from fallow.bootstrap.forward import HOST, forwarding  # noqa: PLC0415 - heavy, and only needed here

    def told(way: str) -> None:
        if json:
            print(jsonlib.dumps({"path": way}), flush=True)
        elif verbose:
            say(f"A connection goes {way}.")
            sys.stdout.flush()

    async def run() -> None:
        profile = profiles.load()
        tls = trusting(profile.ca) if profile.ca else None
        async with (
            AsyncClient(profile.url, profile.api_key, ca=tls) as client,
            forwarding(client, profile.url, tls, job_id, item, port, local, told) as here,
        ):
            if json:
                print(jsonlib.dumps({"host": HOST, "port": here}), flush=True)
            else:
                say(f"{HOST}:{here} leads to port {port} of item {item} of job {job_id}. Ctrl-C ends it.")
            sys.stdout.flush()
            await asyncio.Event().wait()

    asyncio.run(run())


@app.command(name="exec")
def exec_(
    job_id: str,
    /,
    *command: str,
    item: int = 0,
    interactive: Annotated[bool, Parameter(name=["--interactive", "-i"], negative=())] = False,
    terminal: Annotated[bool, Parameter(name=["--tty", "-t"], negative=())] = False,
) -> int:
    """Run a command in the sandbox of a running item, under its limits. Its exit code is returned.

    It ends with the item, and when you leave. Put -- before the command.

    Args:
        job_id: the job.
        command: the command and its arguments.
        item: which item of a map.
        interactive: let it read what is typed or piped here.
        terminal: give it a terminal as large as this one.
    """
    from fallow.bootstrap.execute import execute  # noqa: PLC0415 - heavy, and only needed here
    from fallow.bootstrap.paths import paths  # noqa: PLC0415

    if not command:
        raise InvalidInput("cli.command", "There is no command to run.", "fallow job exec JOB -- COMMAND ARGS…")

    async def run() -> int:
        profile = profiles.load()
        tls = trusting(profile.ca) if profile.ca else None
        with first_error():
            async with (
                AsyncClient(profile.url, profile.api_key, ca=tls) as client,
                paths(client, profile.url, tls, job_id, item, "exec") as ways,
            ):
                return await execute(ways, command, interactive=interactive, terminal=terminal)

    return asyncio.run(run())


@app.command
def cancel(job_id: str, /, *, json: Json = False) -> None:
    """End a job. What it used until then is paid."""
    with profiles.connect() as client:
        job = client.cancel(job_id)
    _show(job, as_json=json)
    if not json and job.state == JobState.RUNNING:
        say("It ends when its machines have heard of it: see `fallow job status`.")


@app.command
def rerun(
    job_id: str,
    /,
    *,
    failed: Annotated[bool, Parameter(negative=(), help="Only the items that have no result.")] = False,
    secret: Annotated[
        Many, Parameter(help="NAME or NAME=PATH, once more for each that the job had: values are not kept.")
    ] = (),
    json: Json = False,
) -> None:
    """Order the same work once more, as a new job. Prints its id and does not wait: see `fallow job wait`."""
    with profiles.connect() as client:
        job = client.rerun(job_id, failed=failed, secrets=secret_values(secret))
    show_json(job) if json else say(job.id)


@app.command
def wait(
    job_id: str,
    /,
    *,
    output: Annotated[Path | None, Parameter(help="Folder to write each result to, one folder an item.")] = None,
    json: Json = False,
) -> int:
    """Wait until a job has ended, and take its results. The exit code is 0 when all of it is done."""
    with profiles.connect() as client:
        names = [sha256[:INPUT_CHARACTERS] for sha256 in client.order(job_id).items] or ["result"]
        results = collect(client, job_id, names, output, quiet=json)
        job = client.job(job_id)
        if json:
            show_json({"job": fields(job), "items": results})
        else:
            tell(bill_line(job, None, client.balance()))
    return 0 if job.state == JobState.DONE else 1


def _row(job: JobView) -> tuple[object, ...]:
    began, items = when(job.created_at), item_counts(job)
    return (job.id, job.state, began, items, used(job.used_ms + job.running_ms), usd(job.owed_microusd), job.label)


def _show(job: JobView, *, as_json: bool) -> None:
    if as_json:
        show_json(job)
        return
    for line in job_lines(job):
        say(line)
