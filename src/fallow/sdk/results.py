"""What came out of an item of a job."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from fallow.domain.errors import InvalidInput, NotFound
from fallow.domain.jobs import ItemState
from fallow.domain.views.jobs import ItemView, JobView
from fallow.sdk.transfers import READ_BYTES_MAX, BlobCalls
from fallow.verticals.compute.core.outcome import Outcome, Output


class Facts:
    """How one item ended. `outcome` is None when it left nothing, for example when it was cancelled while waiting.

    `fault` says why what its machine left is no result, and is empty where it is one: `result.missing`,
    `result.unreadable` or `result.too_large`.
    """

    def __init__(self, job_id: str, item: ItemView, outcome: Outcome | None, fault: str = "") -> None:
        self.job_id = job_id
        self.item = item
        self.outcome = outcome
        self.fault = fault

    @property
    def index(self) -> int:
        """Position among the job's items."""
        return self.item.index

    @property
    def ok(self) -> bool:
        """Whether the item is done, with a result that can be read."""
        return self.item.state == ItemState.DONE and not self.fault

    @property
    def reason(self) -> str:
        """Why it is not done; empty when it is."""
        said = self.outcome.reason if self.outcome else self.item.state
        return "" if self.ok else self.fault or self.item.reason or said

    @property
    def exit_code(self) -> int:
        """What the program returned; -1 when it did not end by itself."""
        return self.outcome.exit_code if self.outcome else -1

    @property
    def outputs(self) -> list[Output]:
        """The files that it left in /out."""
        return self.outcome.outputs if self.outcome else []


class ItemResult(Facts):
    """How one item ended, and access to what it left."""

    def __init__(self, blobs: BlobCalls, job_id: str, item: ItemView, outcome: Outcome | None, fault: str = "") -> None:
        super().__init__(job_id, item, outcome, fault)
        self._blobs = blobs

    async def stdout(self, *, bytes_max: int = READ_BYTES_MAX) -> bytes:
        """What it printed; TooMuch over `bytes_max`."""
        return await self._read(self.outcome.stdout if self.outcome else None, bytes_max)

    async def stderr(self, *, bytes_max: int = READ_BYTES_MAX) -> bytes:
        """What it printed as errors; TooMuch over `bytes_max`."""
        return await self._read(self.outcome.stderr if self.outcome else None, bytes_max)

    async def output(self, name: str, *, bytes_max: int = READ_BYTES_MAX) -> bytes:
        """One of its files; NotFound when it left none of that name."""
        for output in self.outputs:
            if output.name == name:
                return await self._read(output, bytes_max)
        raise NotFound("result.output", f"The program left no file {name!r}.", "`outputs` lists what it left.")

    async def save(self, folder: Path) -> list[Path]:
        """Write stdout, stderr and all its files into `folder`, and return where they are.

        Files of the program go to `folder/out`.

        Raises:
            InvalidInput: a file's name points out of the folder; nothing is written.
        """
        targets = list(self._targets(folder))
        for output, target in targets:
            target.parent.mkdir(parents=True, exist_ok=True)
            await self._blobs.download(output.sha256, target)
        return [target for _, target in targets]

    def _targets(self, folder: Path) -> Iterator[tuple[Output, Path]]:
        if self.outcome is not None:
            yield self.outcome.stdout, folder / "stdout"
            yield self.outcome.stderr, folder / "stderr"
        for output in self.outputs:
            yield output, _inside(folder / "out", output.name)

    async def _read(self, output: Output | None, bytes_max: int) -> bytes:
        return b"" if output is None else await self._blobs.read(output.sha256, bytes_max=bytes_max)


class RunResult(ItemResult):
    """How a job of a single item ended. `job` is the whole job as it was then."""

    def __init__(
        self, blobs: BlobCalls, job: JobView, item: ItemView, outcome: Outcome | None, fault: str = ""
    ) -> None:
        super().__init__(blobs, job.id, item, outcome, fault)
        self.job = job


def _inside(folder: Path, name: str) -> Path:
    """Join, where `name` was made by a stranger's machine."""
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in name or "\\" in name:
        raise InvalidInput("result.name", f"The result has a file with the name {name!r}, which is refused.")
    return folder.joinpath(*path.parts)
