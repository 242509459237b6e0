"""The compute worker: real programs, blobs in memory."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest
import wasmtime

from fallow.domain.errors import NotAllowed, NotFound, TooMuch, Unavailable
from fallow.domain.resources import Resources
from fallow.ports.vertical.work import Assignment, Finished
from fallow.verticals.compute.core.outcome import Outcome, decode_outcome
from fallow.verticals.compute.worker import confine
from fallow.verticals.compute.worker import worker as module
from fallow.verticals.compute.worker.cgroups import find_group, open_group
from fallow.verticals.compute.worker.wasm import WasmJob, WasmOutcome, run_wasm
from fallow.verticals.compute.worker.worker import ComputeWorker
from tests.capability import require
from tests.unit.agent_fakes import MemoryBlobs

HEAD = """
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "hello\\n") (data (i32.const 200) "input") (data (i32.const 300) "copy.txt")
  (data (i32.const 0) "\\64\\00\\00\\00\\06\\00\\00\\00")
"""
HELLO = "(drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))"
# Reads /in/input (folder 3) into 1024, writes as much to /out/copy.txt (folder 4).
COPY = """
  (drop (call $open (i32.const 3) (i32.const 0) (i32.const 200) (i32.const 5) (i32.const 0)
                    (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 40)))
  (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 1000))
  (drop (call $read (i32.load (i32.const 40)) (i32.const 0) (i32.const 1) (i32.const 32)))
  (drop (call $open (i32.const 4) (i32.const 0) (i32.const 300) (i32.const 8) (i32.const 1)
                    (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 40)))
  (i32.store (i32.const 4) (i32.load (i32.const 32)))
  (drop (call $write (i32.load (i32.const 40)) (i32.const 0) (i32.const 1) (i32.const 32)))
"""
SPIN = "(loop $spin (br $spin))"


def program(body: str) -> bytes:
    return bytes(wasmtime.wat2wasm(f'(module {HEAD} (func (export "_start") {body}))'))


class Case:
    """One assignment and the worker that does it."""

    def __init__(self, folder: Path) -> None:
        self.worker = ComputeWorker(folder / "cache")
        self.blobs = MemoryBlobs()
        self.workspace = folder / "lease"
        self.workspace.mkdir()
        self.cancel = asyncio.Event()
        self.started = asyncio.Event()

    async def run(
        self, code: bytes, *, item: str | None = None, time_limit_s: int = 60, cpu_milli: int = 1000, **work: Any
    ) -> Finished:
        """Run `code`; `work` goes over the work's fields."""
        work = {"program": self.blobs.add(code), **work}
        resources = Resources(cpu_milli=cpu_milli, memory_mib=128, disk_mib=64)
        return await self.worker.run(
            Assignment(
                work, item, bytes(32), resources, time_limit_s, self.workspace, self.blobs, self.cancel, self.started
            )
        )

    def outcome(self, finished: Finished) -> Outcome:
        """The document that a run left."""
        assert finished.result is not None
        return decode_outcome(self.blobs.blobs[finished.result])


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


async def test_the_probe_really_runs_a_program(case: Case) -> None:
    probe = await case.worker.probe()
    assert probe.attributes["compute.wasm"] == "wasi-p1"
    assert "wasm" not in probe.missing


async def test_the_probe_says_why_not(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object, **__: object) -> WasmOutcome:
        raise Unavailable("compute.no_wasmtime", "wasmtime is not installed.")

    monkeypatch.setattr(module, "run_wasm", broken)
    probe = await case.worker.probe()
    assert not any(name.startswith("compute.wasm") for name in probe.attributes)
    assert "wasmtime is not installed" in probe.missing["wasm"]


async def test_a_good_run(case: Case) -> None:
    finished = await case.run(program(HELLO))
    assert (finished.ok, finished.reason, finished.caused_by) == (True, "", "nobody")
    assert case.started.is_set()
    assert finished.used_ms > 0
    assert finished.measures["fuel"] > 0
    outcome = case.outcome(finished)
    assert (outcome.exit_code, outcome.reason, outcome.outputs) == (0, "", [])
    assert case.blobs.blobs[outcome.stdout.sha256] == b"hello\n"
    assert outcome.stdout.size == 6


async def test_a_maps_item_goes_in_and_an_output_comes_out(case: Case) -> None:
    finished = await case.run(program(COPY), item=case.blobs.add(b"one item"))
    (output,) = case.outcome(finished).outputs
    assert output.name == "copy.txt"
    assert case.blobs.blobs[output.sha256] == b"one item"


async def test_inputs_are_laid_out_by_name(case: Case) -> None:
    finished = await case.run(program(COPY), inputs={"input": case.blobs.add(b"named"), "b": case.blobs.add(b"")})
    assert case.blobs.blobs[case.outcome(finished).outputs[0].sha256] == b"named"


@pytest.mark.parametrize(
    ("body", "work", "reason"),
    [
        ("(call $exit (i32.const 3))", {}, "program.exit"),
        (SPIN, {"fuel": 10_000}, "program.fuel"),
        ("unreachable", {}, "program.trap"),
        (SPIN, {"time_limit_s": 1, "fuel": 10**15}, "program.time"),
    ],
)
async def test_how_programs_fail(case: Case, body: str, work: dict[str, Any], reason: str) -> None:
    finished = await case.run(program(HELLO + body), **work)
    assert (finished.ok, finished.reason, finished.caused_by) == (False, reason, "buyer")
    assert finished.used_ms > 0
    outcome = case.outcome(finished)
    assert outcome.reason == reason
    assert outcome.exit_code == (3 if reason == "program.exit" else -1)
    if reason in {"program.fuel", "program.trap"}:
        assert case.blobs.blobs[outcome.stderr.sha256].startswith(b"fallow: ")


async def test_no_program_at_all(case: Case) -> None:
    finished = await case.run(b"this is no wasm")
    assert (finished.reason, finished.caused_by, finished.used_ms) == ("program.invalid", "buyer", 0)
    assert case.blobs.blobs[case.outcome(finished).stderr.sha256]


async def test_malformed_work(case: Case) -> None:
    finished = await case.run(program(HELLO), fuel=-1)
    assert finished == Finished(False, "program.invalid", "buyer", 0, None, {})


@pytest.mark.parametrize(
    ("error", "reason", "caused_by"),
    [
        (NotFound("blob.unknown", "No such blob."), "node.fetch_failed", "provider"),
        (Unavailable("agent.gateway", "No gateway."), "network.away", "nobody"),
        (Unavailable("agent.disk_full", "No room."), "agent.disk_full", "owner"),
        (OSError(errno.ENOSPC, "No room."), "agent.disk_full", "owner"),
        (TooMuch("agent.inputs_too_large", "Too large."), "program.inputs_too_large", "buyer"),
    ],
)
async def test_inputs_that_cannot_be_had(case: Case, error: Exception, reason: str, caused_by: str) -> None:
    case.blobs.error = error  # type: ignore[assignment]
    finished = await case.run(program(HELLO))
    assert finished == Finished(False, reason, caused_by, 0, None, {})
    assert not case.started.is_set()


@pytest.mark.parametrize(
    ("error", "reason", "caused_by"),
    [
        (NotAllowed("ticket.expired", "The ticket has expired."), "node.store_failed", "provider"),
        (Unavailable("agent.uploads_full", "Too much waits."), "network.away", "nobody"),
        (Unavailable("agent.disk_full", "No room."), "agent.disk_full", "owner"),
    ],
)
async def test_a_result_that_cannot_be_stored(
    case: Case, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str, caused_by: str
) -> None:
    async def broken(_: Path) -> str:
        raise error

    monkeypatch.setattr(case.blobs, "store", broken)
    finished = await case.run(program(HELLO))
    assert finished == Finished(False, reason, caused_by, 0, None, {})


async def test_a_runner_that_fails_is_the_machines_fault(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object, **__: object) -> WasmOutcome:
        raise Unavailable("compute.runner_failed", "No memory.")

    monkeypatch.setattr(module, "run_wasm", broken)
    assert await case.run(program(HELLO)) == Finished(False, "node.run_failed", "provider", 0, None, {})


async def test_links_are_not_collected(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run_and_link(job: WasmJob, **limits: Any) -> WasmOutcome:
        outcome = await run_wasm(job, **limits)
        (job.workspace / "out" / "secrets").symlink_to("/etc/passwd")
        (job.workspace / "out" / "folder").symlink_to("/etc")
        return outcome

    monkeypatch.setattr(module, "run_wasm", run_and_link)
    finished = await case.run(program(COPY), item=case.blobs.add(b"item"))
    assert [output.name for output in case.outcome(finished).outputs] == ["copy.txt"]


async def test_cancel_while_it_runs(case: Case) -> None:
    async with asyncio.TaskGroup() as group:
        running = group.create_task(case.run(program(SPIN), fuel=10**15))
        await case.started.wait()
        case.cancel.set()
    finished = running.result()
    assert (finished.ok, finished.reason, finished.caused_by, finished.result) == (False, "cancelled", "nobody", None)


async def test_cancel_before_it_runs(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(_sha256: str, _to: Path) -> None:
        case.cancel.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(case.blobs, "fetch", never)
    assert await case.run(program(HELLO)) == Finished(False, "cancelled", "nobody", 0, None, {})
    assert not case.started.is_set()


async def test_what_bounds_sandboxes_is_told(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    found = (await case.worker.probe()).attributes["compute.enforcement"]
    assert found in {"cgroup2", "cgroup1", "rlimits"}
    monkeypatch.setattr(confine, "open_group", lambda *_, **__: None)
    probe = await case.worker.probe()
    assert probe.attributes["compute.enforcement"] == "rlimits"
    assert "No control groups" in probe.missing["enforcement"]
    assert (await case.run(program(HELLO))).ok


async def test_a_tenth_of_a_core_is_no_more_than_that(case: Case) -> None:
    require("memory-cgroup")
    finished = await case.run(program(SPIN), fuel=10**15, time_limit_s=2, cpu_milli=100)
    assert finished.reason == "program.time"
    # A tenth of the two seconds, and the quota's last period.
    assert 0 < finished.measures["cpu_ms"] < 500


async def test_no_group_is_left_behind(case: Case) -> None:
    require("memory-cgroup")
    assert (await case.run(program(HELLO))).ok
    assert _groups() == []


async def test_a_sandbox_steps_back_behind_everybody_else(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, Any]] = []

    async def look(job: WasmJob, *, confine: Any, **limits: Any) -> WasmOutcome:
        def confine_and_look(pid: int) -> None:
            confine(pid)
            seen.append((pid, psutil.Process(pid).ionice().ioclass))

        return await run_wasm(job, confine=confine_and_look, **limits)

    monkeypatch.setattr(module, "run_wasm", look)
    assert (await case.run(program(HELLO))).ok
    assert [ioclass for _, ioclass in seen] == [psutil.IOPRIO_CLASS_IDLE]


def _groups() -> list[Path]:
    """Control groups that this process has made for programs."""
    return list(Path("/sys/fs/cgroup").rglob(f"fallow-{os.getpid()}-wasm*"))


def test_what_a_killed_agent_left_is_removed() -> None:
    require("memory-cgroup")
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
        left = open_group(f"fallow-{gone.pid}-wasm1", memory_bytes=1 << 24, processes=8, cpu_milli=100)
        assert left is not None
        left.part("exec-1")  # of a command that was run in it
    confine.enforcement()
    assert not list(Path("/sys/fs/cgroup").rglob(f"fallow-{gone.pid}-*"))


def test_the_group_of_a_process_that_is_gone() -> None:
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    assert find_group(gone.pid, "/fallow") is None
    assert find_group(os.getpid(), "/fallow") is None
