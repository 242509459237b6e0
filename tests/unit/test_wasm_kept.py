# ruff: noqa: ASYNC240
"""The folder /checkpoint of a WASM program: what of it is kept, and what the next run finds."""

from __future__ import annotations

import asyncio
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest

from fallow.domain.leases import CHECKPOINT_UNUSABLE
from fallow.domain.resources import Resources
from fallow.ports.vertical.work import Assignment, Finished
from fallow.verticals.compute.core.outcome import decode_outcome
from fallow.verticals.compute.core.work import WasmWork
from fallow.verticals.compute.worker.bundles import unpack
from fallow.verticals.compute.worker.wasm import run_wasm
from fallow.verticals.compute.worker.wasm_files import NODES_MAX
from fallow.verticals.compute.worker.worker import ComputeWorker
from tests.unit.agent_fakes import MemoryBlobs
from tests.unit.wasm_programs import EXIT_WITH_ERRNO, SPIN, Runs, call, opened, wasm, write

FOLDER = 5
READ, WRITE = 1 << 1, 1 << 6
CREATE, TRUNCATE = 1, 8
OPENED = "(i32.load (i32.const 40))"
NAME = 200, 5  # "a.txt"
CREATED = opened(FOLDER, *NAME, CREATE, READ | WRITE)
CLOSED = call("fd_close", OPENED)
SAVED = CREATED + write(OPENED, 100, 6) + CLOSED


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


async def kept_of(runs: Runs, program: bytes, before: dict[str, bytes], **changes: Any) -> dict[str, bytes]:
    """What the host has of /checkpoint after a run that begins with `before`; it is stopped if it does not end."""
    job = runs.job(program, checkpoint=True, **changes)
    folder = job.workspace / "checkpoint"
    for name, data in before.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    folder.mkdir(exist_ok=True)
    await run_wasm(job, nice=0)
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("body", "before", "kept"),
    [
        (SAVED + SPIN, {}, {"a.txt": b"hello\n"}),
        (CREATED + write(OPENED, 100, 6) + SPIN, {}, {}),
        (CREATED + write(OPENED, 100, 6) + call("fd_sync", OPENED) + SPIN, {}, {"a.txt": b"hello\n"}),
        (SAVED + call("path_rename", FOLDER, *NAME, FOLDER, 100, 3) + SPIN, {}, {"hel": b"hello\n"}),
        (call("path_unlink_file", FOLDER, *NAME) + SPIN, {"a.txt": b"1", "b": b"2"}, {"b": b"2"}),
        (SAVED + SPIN, {"a.txt": b"longer before", "d/e": b"stays"}, {"a.txt": b"hello\n before", "d/e": b"stays"}),
        (opened(FOLDER, *NAME, TRUNCATE, WRITE) + CLOSED + SPIN, {"a.txt": b"123"}, {"a.txt": b""}),
        (SPIN, {"a.txt": b"123"}, {"a.txt": b"123"}),
        (call("path_remove_directory", FOLDER, *NAME) + SAVED + SPIN, {"a.txt/x/y": b"1"}, {"a.txt/x/y": b"1"}),
    ],
    ids=[
        "closed",
        "still open",
        "synced",
        "renamed",
        "removed",
        "overwritten",
        "cut",
        "untouched",
        "a folder is there",
    ],
)
async def test_what_is_kept_of_a_program_that_is_stopped(
    runs: Runs, body: str, before: dict[str, bytes], kept: dict[str, bytes]
) -> None:
    assert await kept_of(runs, wasm(body), before, fuel_max=10**8) == kept


async def test_a_file_takes_the_place_of_a_folder(runs: Runs) -> None:
    emptied = call("path_unlink_file", FOLDER, 300, 7) + call("path_remove_directory", FOLDER, *NAME)
    program = wasm(emptied, SAVED, text="a.txt/x")
    assert await kept_of(runs, program, {"a.txt/x": b"1"}) == {"a.txt": b"hello\n"}


async def test_a_program_reads_what_was_kept(runs: Runs) -> None:
    reading = "(i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 100))"
    read = call("fd_read", OPENED, 0, 1, 32)
    program = wasm(opened(FOLDER, *NAME, 0, READ), reading, read, write(1, 1024, "(i32.load (i32.const 32))"))
    await kept_of(runs, program, {"a.txt": b"as it was"})
    assert runs.stdout == b"as it was"


async def test_what_it_keeps_counts_as_what_it_writes(runs: Runs) -> None:
    assert await kept_of(runs, wasm(SAVED), {"b": b"x" * 95}, output_bytes_max=100) == {"b": b"x" * 95}
    assert await kept_of(runs, wasm(SAVED), {"b": b"x" * 94}, output_bytes_max=100) != {"b": b"x" * 94}


async def test_without_it_there_is_no_such_folder(runs: Runs) -> None:
    outcome = await runs.run(wasm(call("fd_prestat_get", FOLDER, 32), EXIT_WITH_ERRNO))
    assert outcome.exit_code == 8  # EBADF


async def test_a_link_that_lies_there_leads_nowhere(runs: Runs, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"the owner's")
    job = runs.job(wasm(SAVED), checkpoint=True)
    (job.workspace / "checkpoint").mkdir()
    (job.workspace / "checkpoint" / "a.txt").symlink_to(outside)
    await run_wasm(job, nice=0)
    assert outside.read_bytes() == b"the owner's"


class Lease:
    """A lease of work with checkpoints."""

    def __init__(self, folder: Path, blobs: MemoryBlobs) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.blobs = blobs
        self.saved: list[str] = []
        self.cancel = asyncio.Event()

    async def save(self, archive: Path, used_ms: int) -> None:
        """Keep a checkpoint, and have the owner come back."""
        assert used_ms > 0
        self.saved.append(self.blobs.add(archive.read_bytes()))
        self.cancel.set()

    async def run(self, program: bytes, resume: str | None = None) -> Finished:
        """Run a program, perhaps from a checkpoint on."""
        workspace = self.folder / "lease"
        workspace.mkdir()
        return await ComputeWorker(self.folder / "cache").run(
            Assignment(
                work={"kind": "wasm", "program": self.blobs.add(program), "checkpoint_s": 1, "fuel": 10**15},
                item=None,
                seed=bytes(32),
                resources=Resources(cpu_milli=1000, memory_mib=128, disk_mib=64),
                time_limit_s=60,
                workspace=workspace,
                blobs=self.blobs,
                cancel=self.cancel,
                started=asyncio.Event(),
                save=self.save,
                resume=resume,
            )
        )


async def test_a_program_goes_on_elsewhere_from_what_it_kept(tmp_path: Path) -> None:
    blobs = MemoryBlobs()
    first, second = Lease(tmp_path / "one", blobs), Lease(tmp_path / "two", blobs)
    stopped = await first.run(wasm(SAVED, SPIN))
    assert (stopped.ok, stopped.reason) == (False, "cancelled")
    (archive,) = first.saved
    (tmp_path / "saved.zip").write_bytes(blobs.blobs[archive])
    unpack(tmp_path / "saved.zip", tmp_path / "saved", bytes_max=1000)
    assert (tmp_path / "saved" / "a.txt").read_bytes() == b"hello\n"

    there = opened(FOLDER, *NAME, 0, READ) + EXIT_WITH_ERRNO
    finished = await second.run(wasm(there), resume=archive)
    assert (finished.ok, finished.reason) == (True, "")
    assert finished.result is not None
    assert decode_outcome(blobs.blobs[finished.result]).stdout.size == 0


def archived(files: dict[str, bytes]) -> bytes:
    """A checkpoint as some node may save it."""
    with io.BytesIO() as buffer:
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return buffer.getvalue()


@pytest.mark.parametrize(
    "archive",
    [
        b"no archive",
        archived({str(number): b"" for number in range(NODES_MAX + 1)}),
        archived({"long" * 70: b""}),
    ],
    ids=["unreadable", "more files than a program can have", "a name that no program can give"],
)
async def test_a_checkpoint_that_no_program_has_left_is_nobodys_fault(tmp_path: Path, archive: bytes) -> None:
    blobs = MemoryBlobs()
    finished = await Lease(tmp_path / "one", blobs).run(wasm(SPIN), resume=blobs.add(archive))
    assert (finished.ok, finished.reason, finished.caused_by) == (False, CHECKPOINT_UNUSABLE, "nobody")


def test_what_may_begin_in_the_middle_is_not_compared() -> None:
    plain, kept = WasmWork(program="0" * 64), WasmWork(program="0" * 64, checkpoint_s=60)
    assert (plain.compares, plain.checkpoints) == (True, False)
    assert (kept.compares, kept.checkpoints) == (False, True)
