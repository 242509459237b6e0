"""Files as work: what kind of program a file is decides what is bought."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fallow.cli.show import tell
from fallow.cli.wanted import Wanted
from fallow.domain.errors import InvalidInput
from fallow.domain.orders import Order
from fallow.sdk.bundle import silent
from fallow.sdk.sync import Client
from fallow.sdk.transfers import Source

_WASM = b"\0asm"


def make_order(
    client: Client, program: Path, args: Sequence[str], wanted: Wanted, *, items: Sequence[Source] = (), quiet: bool
) -> Order:
    """Upload a WebAssembly program or a Python script, and make the order for it.

    Raises:
        InvalidInput: the file is neither. Whatever uploading or bundling raises.
    """
    inputs, env, options = wanted.inputs, wanted.environment, wanted.options
    if program.suffix.lower() == ".py":
        say = silent if quiet else tell
        return client.python_order(
            program, args, inputs, items=items, env=env, python=wanted.python, tell=say, **options
        )
    with program.open("rb") as file:
        head = file.read(len(_WASM))
    if head.startswith(b"#!") and b"python" in _first_line(program):
        raise InvalidInput("cli.program", f"{program} looks like a Python script.", "Give it a name that ends in .py.")
    if wanted.python is not None:
        raise InvalidInput("cli.python", "--python is for scripts; this file's name does not end in .py.")
    return client.wasm_order(program, args, inputs, items=items, env=env, **options)


def _first_line(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.readline(200)
