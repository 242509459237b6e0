# ruff: noqa: D102
"""One lease of a compute job for tests, whatever runs it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from fallow.domain.resources import Resources
from fallow.ports.vertical.work import Assignment, Finished
from fallow.verticals.compute.core.outcome import Outcome, decode_outcome
from fallow.verticals.compute.worker.worker import ComputeWorker
from tests.unit.agent_fakes import MemoryBlobs

LEASE_FIELDS = {"line", "opened", "resume", "save", "secrets", "until_stopped"}


class JobCase:
    """One lease, and the worker that does its work."""

    def __init__(self, worker: ComputeWorker, workspace: Path) -> None:
        self.worker = worker
        self.blobs = MemoryBlobs()
        self.workspace = workspace
        self.cancel = asyncio.Event()
        self.started = asyncio.Event()

    async def do(
        self,
        work: dict[str, Any],
        *,
        memory_mib: int,
        seed: bytes = bytes(32),
        item: bytes | None = None,
        time_limit_s: int = 30,
        disk_mib: int = 64,
        **changes: Any,
    ) -> Finished:
        """Do some work; `changes` go over its fields, or are those of the lease."""
        lease = {name: changes.pop(name) for name in LEASE_FIELDS & set(changes)}
        return await self.worker.run(
            Assignment(
                work={**work, **changes},
                item=None if item is None else self.blobs.add(item),
                seed=seed,
                resources=Resources(cpu_milli=1000, memory_mib=memory_mib, disk_mib=disk_mib),
                time_limit_s=time_limit_s,
                workspace=self.workspace,
                blobs=self.blobs,
                cancel=self.cancel,
                started=self.started,
                **lease,
            )
        )

    def outcome(self, finished: Finished) -> Outcome:
        """The document that a run left."""
        assert finished.result is not None, finished
        return decode_outcome(self.blobs.blobs[finished.result])

    def stdout(self, finished: Finished) -> str:
        return self.blobs.blobs[self.outcome(finished).stdout.sha256].decode()

    def stderr(self, finished: Finished) -> str:
        return self.blobs.blobs[self.outcome(finished).stderr.sha256].decode(errors="replace")

    def outputs(self, finished: Finished) -> dict[str, bytes]:
        return {output.name: self.blobs.blobs[output.sha256] for output in self.outcome(finished).outputs}
