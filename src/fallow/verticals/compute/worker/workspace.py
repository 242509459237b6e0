"""A lease's folders: made fit for a program that is somebody else outside, and fit to be collected afterwards."""

from __future__ import annotations

from pathlib import Path

from fallow.domain.errors import TooMuch
from fallow.verticals.compute.worker.course import RunOutcome
from fallow.verticals.compute.worker.watch import open_up, wipe


def make_readable(folder: Path) -> None:
    """Let the job's user read what lies in a folder; nobody else comes as far as here."""
    folder.chmod(0o755)
    for path in folder.iterdir():
        path.chmod(0o644)


def settle_outputs(outputs: Path, outcome: RunOutcome) -> RunOutcome:
    """See that the outputs can be walked through; if not, they are gone and the program is at fault."""
    try:
        open_up(outputs)
    except TooMuch as error:
        wipe(outputs)
        outputs.mkdir()
        return outcome._replace(exit_code=-1, reason="output", detail=error.message.rstrip("."))
    return outcome
