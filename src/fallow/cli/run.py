"""`fallow run`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.text import Text

from fallow.cli import profiles
from fallow.cli.collect import check_output
from fallow.cli.order import cancel_interrupted, make_order
from fallow.cli.show import Json, bill_line, clean, err, fields, node_name, quote_line, say, show_json, tell
from fallow.cli.wanted import Options, Wanted
from fallow.domain.views.jobs import JobView, QuoteView
from fallow.sdk.jobs import Event
from fallow.sdk.sync import Client
from fallow.sdk.sync_results import SyncItemResult

EXIT_MAX = 255


def run(
    *command: str,
    wanted: Options = None,
    output: Annotated[Path | None, Parameter(help="Folder to write stdout, stderr and the program's files to.")] = None,
    detach: Annotated[bool, Parameter(negative=(), help="Print the job's id and do not wait.")] = False,
    json: Json = False,
) -> int:
    """Run a WebAssembly (WASI) program, a Python script or a container on somebody's machine and wait for it.

    Give the program's file and its arguments; with --image what to run in it, or nothing for its own program. A
    script's dependencies (PEP 723) are bundled here. Nothing has a network.

    Its output is printed here and its exit code is returned. Put -- before arguments that begin with a dash.
    """
    wanted = wanted or Wanted()
    secrets = wanted.secrets
    check_output(output)
    with profiles.connect() as client:
        order = make_order(client, command, wanted, quiet=json)
        quote = client.quote(order, secrets=secrets)
        if not json:
            tell(quote_line(quote))
        try:
            job = client.submit(order, secrets=secrets)
            if detach:
                show_json(job) if json else say(job.id)
                return 0
            job = _follow(client, job.id, quiet=json)
        except KeyboardInterrupt:
            return cancel_interrupted(client, order.id)
        return _finish(client, job, quote, output, as_json=json)


def _follow(client: Client, job_id: str, *, quiet: bool) -> JobView:
    if quiet:
        return client.wait(job_id)
    console = err()
    if console.is_terminal:
        with console.status("waiting for a node") as status:
            for event in client.events(job_id):
                status.update(Text(_state_line(event)))
    else:
        for event in client.events(job_id):
            tell(_state_line(event))
    return client.job(job_id)


def _state_line(event: Event) -> str:
    if isinstance(event, JobView):
        return f"job {event.id}: {event.state}"
    where = f" on {node_name(event.node)}" if event.node else ""
    why = f" ({clean(event.reason)})" if event.reason else ""
    return f"{'program' if event.item is not None else 'job'}: {event.state}{where}{why}"


def _finish(client: Client, job: JobView, quote: QuoteView, output: Path | None, *, as_json: bool) -> int:
    result = client.result(job.id)
    saved = result.save(output) if output else []
    if as_json:
        show_json(_document(job, quote, result, saved))
    else:
        _print_streams(result)
        if not result.ok:
            tell(f"It ended with: {clean(result.reason)}. See `fallow job why {job.id}`.")
        tell(bill_line(job, result.item.node, client.balance()))
    return exit_code(result)


def exit_code(result: SyncItemResult) -> int:
    """Return the program's exit code, or 1 when it has none and is not done."""
    if result.exit_code >= 0:
        return result.exit_code if result.exit_code <= EXIT_MAX else 1
    return 0 if result.ok else 1


def _print_streams(result: SyncItemResult) -> None:
    for stream, data in ((sys.stdout, result.stdout()), (sys.stderr, result.stderr())):
        stream.flush()
        stream.buffer.write(data)
        stream.flush()


def _document(job: JobView, quote: QuoteView, result: SyncItemResult, saved: list[Path]) -> dict[str, Any]:
    return {
        "job": fields(job),
        "item": fields(result.item),
        "quote": fields(quote),
        "ok": result.ok,
        "exit_code": result.exit_code,
        "reason": result.reason,
        "outcome": fields(result.outcome) if result.outcome else None,
        "stdout": result.stdout().decode(errors="replace"),
        "stderr": result.stderr().decode(errors="replace"),
        "saved": [str(path) for path in saved],
    }
