"""An agent that dies at named steps of a lease: see `tests/dying.py`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fallow.agent.leases import Held, Leases
from fallow.agent.outbox import Outbox
from fallow.agent.outbox_rows import Entry, Waiting
from fallow.agent.outbox_store import OutboxStore
from fallow.agent.runner import Runner
from fallow.agent.sender import Sender
from fallow.agent.uploads import _PatientBlobs
from fallow.cli.main import main as fallow
from fallow.domain.batches import stored_records
from fallow.domain.facts import LeaseAccepted, LeaseCheckpoint, UsageReceipt
from fallow.verticals.compute.worker.worker import ComputeWorker
from tests.dying import Killer


def main() -> None:
    """Run `fallow` with what comes after the folder."""
    folder = Path(sys.argv.pop(1))
    wrap(Killer(folder))
    fallow()


def wrap(killer: Killer) -> None:
    """Have an agent come to its steps."""

    def entries(_: object, found: Sequence[Entry]) -> list[str]:
        return [_record(entry.body) for entry in found]

    def batch(_: object, waiting: Waiting, *__: object) -> list[str]:
        return [_record(record) for record in stored_records(waiting.data)]

    def each(step: str, of: Callable[..., list[str]]) -> Callable[..., list[str]]:
        return lambda *given: [f"{record} {step}" for record in of(*given) if record]

    killer.wrap(Leases, "decide", after=lambda *_: ["proposal heard"])
    killer.wrap(ComputeWorker, "run", before=lambda *_: ["work begins"], after=lambda *_: ["work ended"])
    killer.wrap(Held, "open", after=lambda _, inside: ["program runs"] if inside else [])
    killer.wrap(Runner, "_save", before=lambda *_: ["checkpoint made"])
    killer.wrap(_PatientBlobs, "store", after=lambda *_: ["result uploaded"])
    killer.wrap(OutboxStore, "append", before=each("unwritten", entries), after=each("written", entries))
    killer.wrap(Sender, "_ask", after=each("taken", batch))
    killer.wrap(Outbox, "promised", after=each("promised", batch))
    killer.wrap(
        Outbox,
        "append",
        before=lambda _, *bodies: ["checkpoint uploaded"] * any(isinstance(body, LeaseCheckpoint) for body in bodies),
    )


def _record(record: Any) -> str:
    """Which of `RECORDS` it is, if any; of a record or of its body."""
    if record.kind == UsageReceipt.kind:
        final = record.final if isinstance(record, UsageReceipt) else record.body["final"]
        return "final" if final else "window"
    return {LeaseAccepted.kind: "accept", LeaseCheckpoint.kind: "checkpoint"}.get(record.kind, "")
