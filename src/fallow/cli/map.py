"""`fallow map`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.types import ExistingFile

from fallow.cli import profiles
from fallow.cli.collect import check_output, collect
from fallow.cli.order import cancel_interrupted, make_order
from fallow.cli.show import Json, bill_line, fields, quote_line, show_json, tell
from fallow.cli.wanted import Many, Options, Wanted
from fallow.domain.errors import InvalidInput


def map_(
    *files: Path,
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
    secrets = wanted.secrets
    check_output(output)
    program, inputs = ([], files) if wanted.image else (files[:1], files[1:])
    items = _items(inputs, args_from)
    with profiles.connect() as client:
        contents = [item for _, item in items]
        order = make_order(client, [*map(str, program), *arg], wanted, items=contents, quiet=json)
        if not json:
            tell(quote_line(client.quote(order, secrets=secrets)))
        try:
            client.submit(order, secrets=secrets)
            results = collect(client, order.id, [name for name, _ in items], output, quiet=json)
        except KeyboardInterrupt:
            return cancel_interrupted(client, order.id)
        job = client.job(order.id)
        if json:
            show_json({"job": fields(job), "items": results})
        else:
            tell(bill_line(job, None, client.balance()))
    return 0 if all(result["ok"] for result in results) and len(results) == len(items) else 1


def _items(inputs: tuple[Path, ...], args_from: Path | None) -> list[tuple[str, Path | bytes]]:
    for path in inputs:
        if not path.is_file():
            raise InvalidInput("cli.inputs", f"There is no file {path}.")
    items: list[tuple[str, Path | bytes]] = [(path.name, path) for path in inputs]
    if args_from is not None:
        lines = args_from.read_bytes().splitlines()
        items += [(f"line-{number}", line) for number, line in enumerate(lines, 1)]
    if not items:
        raise InvalidInput("cli.inputs", "There are no inputs.", "Name files, or a file of lines with --args-from.")
    return items
