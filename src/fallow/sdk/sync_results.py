"""Results for code without asyncio."""

from __future__ import annotations

from pathlib import Path

from fallow.sdk.loop import Loop
from fallow.sdk.results import Facts, ItemResult, RunResult
from fallow.sdk.transfers import READ_BYTES_MAX


class SyncItemResult(Facts):
    """An `ItemResult` for code without asyncio."""

    def __init__(self, result: ItemResult, loop: Loop) -> None:
        super().__init__(result.job_id, result.item, result.outcome, result.fault)
        self._result = result
        self._loop = loop

    def stdout(self, *, bytes_max: int = READ_BYTES_MAX) -> bytes:
        """See `ItemResult.stdout`."""
        return self._loop.run(self._result.stdout(bytes_max=bytes_max))

    def stderr(self, *, bytes_max: int = READ_BYTES_MAX) -> bytes:
        """See `ItemResult.stderr`."""
        return self._loop.run(self._result.stderr(bytes_max=bytes_max))

    def output(self, name: str, *, bytes_max: int = READ_BYTES_MAX) -> bytes:
        """See `ItemResult.output`."""
        return self._loop.run(self._result.output(name, bytes_max=bytes_max))

    def save(self, folder: Path) -> list[Path]:
        """See `ItemResult.save`."""
        return self._loop.run(self._result.save(folder))


class SyncRunResult(SyncItemResult):
    """A `RunResult` for code without asyncio."""

    def __init__(self, result: RunResult, loop: Loop) -> None:
        super().__init__(result, loop)
        self.job = result.job
