"""Files as work: what kind of program a file is decides what is bought."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from fallow.cli.names import full_names
from fallow.cli.show import tell
from fallow.cli.wanted import Wanted
from fallow.domain.errors import InvalidInput, NotFound
from fallow.domain.orders import Order
from fallow.sdk.bundle import silent
from fallow.sdk.sync import Client
from fallow.sdk.transfers import Source

INTERRUPTED_EXIT = 130

_WASM = b"\0asm"


def make_order(
    client: Client, command: Sequence[str], wanted: Wanted, *, items: Sequence[Source] = (), quiet: bool
) -> Order:
    """Upload a program, script or image, and make the order for it.

    `command` is a file and its arguments, or with an image what is run in it.

    Raises:
        InvalidInput: the file is none of them. Whatever uploading or bundling raises.
    """
    wanted = _with_full_names(client, wanted)
    inputs, env, options = wanted.inputs, wanted.environment, wanted.options
    if wanted.comparator is not None:
        options["tolerance"] = client.comparator(wanted.comparator)
    image = wanted.container
    if image is not None:
        if wanted.python is not None:
            raise InvalidInput("cli.python", "--python is for scripts; an image brings its own.")
        return client.container_order(image, command, inputs, items=items, env=env, **options)
    program, args = _program(command), command[1:]
    if program.suffix.lower() == ".py":
        say = silent if quiet else tell
        return client.python_order(
            program, args, inputs, items=items, env=env, python=wanted.python, tell=say, **options
        )
    with program.open("rb") as file:
        head = file.read(len(_WASM))
    if head.startswith(b"#!") and b"python" in _first_line(program):
        raise InvalidInput("cli.program", f"{program} looks like a Python script.", "Give it a name that ends in .py.")
    if not head.startswith(_WASM):
        raise InvalidInput(
            "cli.program",
            f"{program} is neither a WebAssembly program nor a Python script.",
            "Scripts end in .py; anything else runs in a container: --image",
        )
    if wanted.python is not None:
        raise InvalidInput("cli.python", "--python is for scripts; this file's name does not end in .py.")
    return client.wasm_order(program, args, inputs, items=items, env=env, **options)


def cancel_interrupted(client: Client, job_id: str) -> int:
    """Cancel what an interrupted command may have ordered by now, and say so; returns the command's exit code."""
    try:
        client.cancel(job_id)
    except NotFound:
        tell(f"Job {job_id} was not ordered. Should the order still be on its way: fallow job cancel {job_id}")
    else:
        tell(f"Job {job_id} is cancelled.")
    return INTERRUPTED_EXIT


def _with_full_names(client: Client, wanted: Wanted) -> Wanted:
    def nodes() -> Iterator[str]:
        return (node.node for node in client.nodes())

    only, never = (full_names(names, nodes, lists="fallow nodes") for names in (wanted.node, wanted.not_node))
    return replace(wanted, node=tuple(only), not_node=tuple(never))


def _program(command: Sequence[str]) -> Path:
    if not command:
        raise InvalidInput("cli.program", "There is nothing to run.", "Name a file, or an image with --image.")
    program = Path(command[0])
    if not program.is_file():
        raise InvalidInput("cli.program", f"There is no file {command[0]}.")
    return program


def _first_line(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.readline(200)
