"""What goes into a workspace before a program runs, and what comes out of it afterwards."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from fallow.domain.errors import FallowError, InvalidInput, TooMuch, Unavailable
from fallow.ports.vertical.work import Assignment, LeaseBlobs
from fallow.verticals.compute.core.outcome import Outcome, Output, encode_outcome
from fallow.verticals.compute.core.work import ITEM_INPUT, WasmWork, Work, read_work
from fallow.verticals.compute.worker.wasm_store import collect_outputs

PROGRAM: Final = "program.wasm"
DISK_FULL: Final = "agent.disk_full"
TRANSFERS_MAX: Final = 8

# What the runner says of these is the same on every machine with this engine, so it may stand in the program's stderr,
# which runs are compared by.
_TOLD_OF_WASM: Final = frozenset({"fuel", "output", "trap", "invalid"})

_log = logging.getLogger(__name__)
T = TypeVar("T")


class Ended(Exception):
    """The assignment is over before it has a result; see `Finished` for the fields."""

    def __init__(self, reason: str, caused_by: str, used_ms: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.caused_by = caused_by
        self.used_ms = used_ms


class Ran(Protocol):
    """How a program ended; `exit_code` is -1 unless it ended by itself, and the reason is then `exited`."""

    @property
    def exit_code(self) -> int:
        """What it returned."""
        ...

    @property
    def reason(self) -> str:
        """Why it ended."""
        ...

    @property
    def detail(self) -> str:
        """A clause about that."""
        ...

    @property
    def wall_ms(self) -> int:
        """How long it ran."""
        ...


class Stored(NamedTuple):
    """The outcome document's hash (hex), and the bytes of all that it names."""

    result: str
    size: int


async def fetch_all(assignment: Assignment) -> Work:
    """Lay inputs into the workspace, a map's item as /in/input, and a WASI program.

    Raises:
        Ended: the work is malformed, or something could not be had.
    """
    try:
        work = read_work(assignment.work)
    except InvalidInput as error:
        raise Ended("program.invalid", "buyer") from error
    folder = assignment.workspace / "in"
    wanted = {folder / name: sha256 for name, sha256 in work.inputs.items()}
    if assignment.item is not None:
        wanted[folder / ITEM_INPUT] = assignment.item
    if isinstance(work, WasmWork):
        wanted[assignment.workspace / PROGRAM] = work.program
    try:
        await asyncio.to_thread(folder.mkdir, mode=0o700)
        await _each([partial(assignment.blobs.fetch, sha256, to) for to, sha256 in wanted.items()])
    except TooMuch as error:
        raise Ended("program.inputs_too_large", "buyer") from error
    except (FallowError, OSError) as error:
        _log.warning("an input could not be fetched: %s", error)
        raise failed(error, "node.fetch_failed") from error
    return work


async def fetched(assignment: Assignment, sha256: str, to: Path) -> None:
    """Fetch what a program is made of, unless it is cancelled.

    Raises:
        Ended: it could not be had.
    """
    try:
        await unless_cancelled(assignment.cancel, assignment.blobs.fetch(sha256, to))
    except TooMuch as error:
        raise Ended("program.inputs_too_large", "buyer") from error
    except (FallowError, OSError) as error:
        _log.warning("a program could not be fetched: %s", error)
        raise failed(error, "node.fetch_failed") from error


async def store_all(work: Work, assignment: Assignment, outcome: Ran, reason: str) -> Stored:
    """Store what the program left, and the document that names it; `reason` goes into that.

    Raises:
        Ended: there is more than was agreed, or it could not be stored.
    """
    try:
        told = outcome.reason in _TOLD_OF_WASM if isinstance(work, WasmWork) else outcome.reason != "exited"
        said = f"fallow: {outcome.detail}\n" if told else ""
        files = await asyncio.to_thread(_left, assignment.workspace, work.output_mib << 20, said)
        outputs = await _each([partial(_store, assignment.blobs, name, path) for name, path in files])
        document = Outcome(
            exit_code=outcome.exit_code, reason=reason, stdout=outputs[0], stderr=outputs[1], outputs=outputs[2:]
        )
        path = assignment.workspace / "outcome.json"
        await asyncio.to_thread(path.write_bytes, encode_outcome(document))
        result = await assignment.blobs.store(path)
    except (InvalidInput, TooMuch) as error:
        _log.info("the output cannot be stored: %s", error)
        raise Ended("program.output", "buyer", outcome.wall_ms) from error
    except (FallowError, OSError) as error:
        _log.warning("the result could not be stored: %s", error)
        raise failed(error, "node.store_failed") from error
    return Stored(result, sum(output.size for output in outputs))


async def unless_cancelled(cancel: asyncio.Event, work: Coroutine[Any, Any, T], used_ms: int = 0) -> T:
    """Return what `work` returns, or raise Ended as soon as `cancel` is set."""
    try:
        async with asyncio.TaskGroup() as group:
            working = group.create_task(work)
            watching = group.create_task(cancel.wait())
            await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
            working.cancel()
            watching.cancel()
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    if working.cancelled():
        raise Ended("cancelled", "nobody", used_ms)
    return working.result()


async def _each(jobs: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    """Run all jobs, some at a time, and return their results in order; the first error ends the others."""
    slots = asyncio.Semaphore(TRANSFERS_MAX)

    async def one(job: Callable[[], Awaitable[T]]) -> T:
        async with slots:
            return await job()

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(job)) for job in jobs]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


async def _store(blobs: LeaseBlobs, name: str, path: Path) -> Output:
    size = (await asyncio.to_thread(path.stat)).st_size
    return Output(name=name, sha256=await blobs.store(path), size=size)


def _left(workspace: Path, bytes_max: int, said: str) -> list[tuple[str, Path]]:
    """Names and paths of stdout, stderr (with what is `said` of the run) and the outputs, in this order."""
    streams = [(name, workspace / name) for name in ("stdout", "stderr")]
    for _, path in streams:
        path.touch()  # a program that never began has left none
    if said:
        with streams[1][1].open("a", encoding="utf-8") as file:
            file.write(said)
    return [*streams, *((name, path) for name, path, _ in collect_outputs(workspace, bytes_max))]


def failed(error: FallowError | OSError, reason: str) -> Ended:
    """Who is to blame for a transfer that failed: the network when it is away, the owner when his disk is full."""
    if isinstance(error, Unavailable) and error.code != DISK_FULL:
        return Ended("network.away", "nobody")
    return broken(error, reason)


def broken(error: FallowError | OSError, reason: str = "node.run_failed") -> Ended:
    """Who is to blame for what this machine could not do: its provider, unless it is the owner's own files."""
    if getattr(error, "code", "") == DISK_FULL or getattr(error, "errno", 0) == errno.ENOSPC:
        return Ended(DISK_FULL, "owner")
    return Ended(reason, "provider")
