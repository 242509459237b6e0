"""`fallow up` whose market takes every node for alive: so many cannot give signs of life on one machine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from fallow.adapters.engines.process import Program
from fallow.bootstrap import serve, up
from fallow.cli.main import main as fallow
from fallow.domain import offers
from tests.dying import command
from tests.network import leave_nothing, stop


def main() -> None:
    """Run `fallow up` with what comes after the folder; the roles that it starts come back here."""
    folder = sys.argv.pop(1)
    if sys.argv[1] == "--role":
        sys.argv.pop(1)
        offers.LOST_AFTER_MS = sys.maxsize
        serve.main()
    else:
        up._program = _alive(up._program, folder)
        fallow()


def _alive(original: Callable[..., Program], folder: str) -> Callable[..., Program]:
    def program(data: Path, role: str, ready: Path) -> Program:
        found = original(data, role, ready)
        return replace(found, argv=(*command("alive_roles", folder), "--role", *found.argv[3:]))

    return program


@contextmanager
def all_alive(data: Path) -> Iterator[subprocess.Popen[str]]:
    """Run it on a folder; its first line is what `fallow up --json` says."""
    arguments = ("up", "--json", "--port", "0", "--bus-port", "0", "--data", str(data))
    with (data.parent / "alive.log").open("a") as log:
        process = subprocess.Popen(
            (*command("alive_roles", data), *arguments),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        stop(process)
        leave_nothing(data)
