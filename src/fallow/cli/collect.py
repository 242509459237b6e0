"""The results of a job of many items, as they come."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from fallow.cli.progress import Progress
from fallow.cli.show import clean, fields, tell
from fallow.domain.errors import InvalidInput
from fallow.sdk.sync import Client
from fallow.sdk.sync_results import SyncItemResult

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
            sys.stderr.buffer.write(result.stderr()[-STDERR_BYTES_SHOWN:])
            sys.stderr.flush()
