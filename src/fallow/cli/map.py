"""`fallow map`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.types import ExistingFile

from fallow.cli import profiles
from fallow.cli.order import make_order
from fallow.cli.progress import Progress
from fallow.cli.show import Json, bill_line, clean, fields, quote_line, show_json, tell
from fallow.cli.wanted import Many, Options, Wanted
from fallow.domain.errors import InvalidInput
from fallow.sdk.sync import Client
from fallow.sdk.sync_results import SyncItemResult

INTERRUPTED_EXIT = 130


def map_(
    *files: ExistingFile,
    args_from: Annotated[ExistingFile | None, Parameter(help="A file: each of its lines is one more input.")] = None,
    arg: Annotated[Many, Parameter(help="An argument of the program; may be repeated.")] = (),
    wanted: Options = None,
    output: Annotated[Path | None, Parameter(help="Folder to write each result to, one folder an input.")] = None,
    json: Json = False,
) -> int:
    """Run a program, script or container once for each input, which it finds as /in/input, on many machines at once.

    Give the program's file and then those of the inputs; with --image all files are inputs.

    What the runs print is printed here in the order of the inputs. The exit code is 0 when all went well.
    """
    wanted = wanted or Wanted()
    program, inputs = ([], files) if wanted.image else (files[:1], files[1:])
    items = _items(inputs, args_from)
    with profiles.connect() as client:
        contents = [item for _, item in items]
        order = make_order(client, [*map(str, program), *arg], wanted, items=contents, quiet=json)
        if not json:
            tell(quote_line(client.quote(order)))
        job = client.submit(order)
        names = [name for name, _ in items]
        try:
            results = _collect(client, job.id, names, output, quiet=json)
        except KeyboardInterrupt:
            client.cancel(job.id)
            tell(f"Job {job.id} is cancelled.")
            return INTERRUPTED_EXIT
        job = client.job(job.id)
        if json:
            show_json({"job": fields(job), "items": results})
        else:
            tell(bill_line(job, None, client.balance()))
    return 0 if all(result["ok"] for result in results) and len(results) == len(items) else 1


def _items(inputs: tuple[Path, ...], args_from: Path | None) -> list[tuple[str, Path | bytes]]:
    items: list[tuple[str, Path | bytes]] = [(path.name, path) for path in inputs]
    if args_from is not None:
        lines = args_from.read_bytes().splitlines()
        items += [(f"line-{number}", line) for number, line in enumerate(lines, 1)]
    if not items:
        raise InvalidInput("cli.inputs", "There are no inputs.", "Name files, or a file of lines with --args-from.")
    return items


def _collect(
    client: Client, job_id: str, names: list[str], output: Path | None, *, quiet: bool
) -> list[dict[str, Any]]:
    """Take results as they come; give them out in the order of the inputs."""
    early: dict[int, SyncItemResult] = {}
    results: list[dict[str, Any]] = []
    with Progress(len(names), shown=not quiet) as progress:
        for result in client.results(job_id, watch=progress.event):
            progress.result(result)
            if output is not None:
                result.save(output / f"{result.index:05d}-{Path(names[result.index]).name}")
            early[result.index] = result
            # What a program printed is fetched when its turn comes, so that it does not pile up here.
            while (turn := early.pop(len(results), None)) is not None:
                results.append(_document(turn, names[turn.index], with_stdout=quiet))
                if not quiet:
                    _print(progress, turn, names[turn.index])
    return results


def _document(result: SyncItemResult, name: str, *, with_stdout: bool) -> dict[str, Any]:
    document = {
        "index": result.index,
        "input": name,
        "ok": result.ok,
        "exit_code": result.exit_code,
        "reason": result.reason,
        "node": result.item.node,
        "used_ms": result.item.used_ms,
        "owed_microusd": result.item.owed_microusd,
        "outputs": [fields(output) for output in result.outputs],
    }
    return document | {"stdout": result.stdout().decode(errors="replace")} if with_stdout else document


def _print(progress: Progress, result: SyncItemResult, name: str) -> None:
    stdout = result.stdout()
    with progress.paused():
        sys.stdout.flush()
        sys.stdout.buffer.write(stdout)
        sys.stdout.flush()
        if not result.ok:
            tell(f"{clean(name)} (item {result.index}): {clean(result.reason)}")
