"""The demo's third part: objects on eight owners' disks, four of which are lost."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from money import LOOK_S, PATIENCE_S, Typed
from rich.console import Console

OWNERS = tuple(f"attic-{number}" for number in range(1, 9))
LOST = OWNERS[::2]
"""Any four of eight pieces give an object back."""
LENT = "100MiB"
LIMIT_USD = "0.05"
BUCKET = "fallow://harvest"

Lender = Callable[[str, Sequence[str]], AbstractContextManager["subprocess.Popen[str]"]]
"""Starts the agent of an owner, with the words for what it offers."""


class Lost(Exception):
    """What was stored could not be had back. `code` is that of the command's own error, if one was refused."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


def store_objects(typed: Typed, lender: Lender, files: Path, folder: Path, console: Console) -> None:
    """Store a folder, take half of the disks away, and read everything back into another.

    Raises:
        Lost: not each byte came back.
    """
    console.rule("[bold]fallow agent join --lend storage=FOLDER:SIZE[/]: eight more owners lend a disk each")
    with ExitStack() as stack:
        agents = {name: stack.enter_context(lender(name, lends(folder / f"{name}-disk"))) for name in OWNERS}
        type_as_buyer(typed, "subscription", "open", "storage", "--limit", LIMIT_USD)
        type_as_buyer(typed, "storage", "init")
        type_as_buyer(typed, "storage", "mb", BUCKET)
        stored = stored_once_they_are_there(typed, files)
        size = sum(one["size"] for one in stored)
        console.print(f"[bold]fallow storage cp -r[/]: {len(stored)} files, {size:,} bytes, sealed here, lie in pieces")
        console.print(f"  [yellow]kill -9 {' '.join(LOST)}[/]: half of the owners pull the plug")
        for name in LOST:
            agents[name].send_signal(signal.SIGKILL)
        back = folder / "read-back"
        type_as_buyer(typed, "storage", "cp", "--recursive", BUCKET, str(back))
        for one in stored:
            file = Path(one["source"]).relative_to(files)
            if (back / file).read_bytes() != (files / file).read_bytes():
                raise Lost(f"{file} did not come back as it was stored")
        console.print("[bold]fallow storage cp -r[/]: each byte is back, from the disks that are left.")


def lends(disk: Path) -> list[str]:
    """The words that lend a folder, and next to nothing else."""
    return ["--cpu", "0.05", "--memory", "32", "--lend", f"storage={disk}:{LENT}"]


def type_as_buyer(typed: Typed, *words: str) -> Any:  # noqa: ANN401 - any JSON value
    """What a command of the buyer's answers."""
    try:
        return typed(*words, who="buyer", api_key=typed.network["buyer_key"])
    except subprocess.CalledProcessError as error:
        refusal = json.loads(error.stdout) if error.stdout else {"message": error.stderr, "code": ""}
        raise Lost(f"fallow {' '.join(words)}: {refusal['message']}", refusal["code"]) from error


def stored_once_they_are_there(typed: Typed, files: Path) -> list[dict[str, Any]]:
    """Store a folder once enough machines have joined to hold what is in it."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            copied: list[dict[str, Any]] = type_as_buyer(typed, "storage", "cp", "--recursive", str(files), BUCKET)
        except Lost as error:
            if error.code != "storage.too_few_nodes" or time.monotonic() > until:
                raise
            time.sleep(LOOK_S)
        else:
            return copied
