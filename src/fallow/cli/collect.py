"""The results of a job of many items, as they come."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from fallow.cli.progress import Progress
from fallow.cli.show import clean, fields, tell
from fallow.domain.errors import InvalidInput, NotFound, TooMuch
from fallow.sdk.sync import Client
from fallow.sdk.sync_results import SyncItemResult

T = TypeVar("T")

STDERR_BYTES_SHOWN = 2000
"""Of what a failed run of a map wrote to stderr, its end."""


def check_output(folder: Path | None) -> None:
    """Make the folder for results before anything is bought; OSError when that cannot be.

    Raises:
        InvalidInput: nothing can be written there.
    """
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InvalidInput("cli.output", f"Nothing can be written to {folder}.", "Choose another folder.")


def collect(client: Client, job_id: str, names: list[str], output: Path | None, *, quiet: bool) -> list[dict[str, Any]]:
    """Take results as they come, and give them out in the order of the inputs, which `names` names.

    They are saved below `output`. With `quiet` nothing is printed, and what the programs printed is in the answer.
    """
    early: dict[int, tuple[SyncItemResult, str]] = {}
    results: list[dict[str, Any]] = []
    with Progress(len(names), shown=not quiet) as progress:
        for result in client.results(job_id, watch=progress.event):
            progress.result(result)
            folder = output and output / f"{result.index:05d}-{Path(names[result.index]).name}"
            early[result.index] = result, _tried(partial(result.save, folder))[1] if folder else ""
            # What a program printed is fetched when its turn comes, so that it does not pile up here.
            while (turn := early.pop(len(results), None)) is not None:
                results.append(_shown(progress, *turn, names[turn[0].index], quiet=quiet))
    return results


def _shown(progress: Progress, result: SyncItemResult, unsaved: str, name: str, *, quiet: bool) -> dict[str, Any]:
    stdout, unread = _tried(result.stdout)
    document = _document(result, name, unsaved or unread)
    if quiet:
        return document | {"stdout": (stdout or b"").decode(errors="replace")}
    _print(progress, result, document, stdout or b"")
    return document


def _tried(take: Callable[[], T]) -> tuple[T | None, str]:
    """Take what a machine left; where it left something else, why it cannot be had: others' results come yet."""
    try:
        return take(), ""
    except (NotFound, InvalidInput, TooMuch) as error:
        if error.code.startswith("rate."):
            raise
        return None, error.code


def _document(result: SyncItemResult, name: str, fault: str) -> dict[str, Any]:
    return {
        "index": result.index,
        "input": name,
        "ok": result.ok and not fault,
        "exit_code": result.exit_code,
        "reason": result.reason or fault,
        "node": result.item.node,
        "used_ms": result.item.used_ms,
        "owed_microusd": result.item.owed_microusd,
        "outputs": [fields(output) for output in result.outputs],
    }


def _print(progress: Progress, result: SyncItemResult, document: dict[str, Any], stdout: bytes) -> None:
    with progress.paused():
        sys.stdout.flush()
        sys.stdout.buffer.write(stdout)
        sys.stdout.flush()
        if not document["ok"]:
            tell(f"{clean(document['input'])} (item {result.index}): {clean(document['reason'])}")
            sys.stderr.buffer.write((_tried(result.stderr)[0] or b"")[-STDERR_BYTES_SHOWN:])
            sys.stderr.flush()
