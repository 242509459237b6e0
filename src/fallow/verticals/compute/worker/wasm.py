"""Run one WASI program in a child process of its own, metered and limited; the parent's side.

The program sees WASI preview1 as `wasm_wasi` has it: deterministic, without network, with two folders, `/in` (what lies
under `<workspace>/in`, read-only) and `/out`. Its stdout and stderr become `<workspace>/stdout` and `.../stderr`.

    <workspace>/in/          laid there by the caller; may be absent
    <workspace>/out/         absent or empty before; the program's files afterwards, unless the child was killed
    <workspace>/checkpoint/  where it has one: what it begins with, and what it has kept of it (see `wasm_kept`)

Same program, arguments, environment, inputs, seed, limits and ENGINE: same outputs, fuel and reason, where the reason
is exited, fuel, memory, output, trap or invalid. `time` and `cancelled` depend on the machine.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import math
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

import msgspec

from fallow.domain.errors import InvalidInput, TooMuch, Unavailable
from fallow.verticals.compute.worker.wasm_files import BLOBS
from fallow.verticals.compute.worker.wasm_start import Child, Spare
from fallow.verticals.compute.worker.wasm_store import collect_outputs, compiled_path, prune_cache

__all__ = ["ENGINE", "Reason", "WasmJob", "WasmOutcome", "collect_outputs", "prune_cache", "run_wasm"]

Reason = Literal["exited", "fuel", "memory", "time", "trap", "output", "invalid", "cancelled"]

# What two results must share before they can be compared byte by byte. The last number is this runner's own version:
# it changes whenever a program could see or pay something else than before.
ENGINE: Final = f"wasmtime-{importlib.metadata.version('wasmtime')}/preview1/fallow-1"
SEED_BYTES: Final = 32
FUEL_MAX: Final = 1 << 62
MEMORY_BYTES_MAX: Final = 1 << 32
# The job travels in one write to a pipe, which takes 64 KiB without waiting.
_LINE_BYTES_MAX: Final = 60_000
# What it means when the kernel, not the parent, ended the child.
_SIGNALS: Final[dict[int, Reason]] = {
    signal.SIGXCPU: "time",
    signal.SIGABRT: "memory",  # how the engine gives up when it gets no memory
    signal.SIGKILL: "memory",  # the kernel's way out when the machine has none left
}


class WasmJob(msgspec.Struct, frozen=True, kw_only=True):
    """One run of one program. `seed` comes from the job's id and the task's index, so that replicas agree."""

    program: Path
    workspace: Path
    seed: bytes
    fuel_max: int
    memory_bytes_max: int
    output_bytes_max: int
    time_limit_s: float
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    stdin: Path | None = None
    checkpoint: bool = False


class WasmOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """How it ended. `exit_code` is -1 unless the reason is `exited`; `fuel_used` is 0 when the child was killed.

    `peak_memory_bytes` is the child's physical memory, about 30 MB of it the engine's own.
    """

    exit_code: int
    reason: Reason
    detail: str
    fuel_used: int
    wall_ms: int
    cpu_ms: int
    peak_memory_bytes: int


class _Answer(msgspec.Struct, frozen=True):
    exit_code: int = -1
    reason: Reason = "trap"
    detail: str = ""
    fuel_used: int = 0
    peak_memory_bytes: int = 0
    broken: str = ""


async def run_wasm(
    job: WasmJob,
    *,
    cancel: asyncio.Event | None = None,
    cache_dir: Path | None = None,
    nice: int = 10,
    confine: Callable[[int], None] | None = None,
    spare: Spare | None = None,
) -> WasmOutcome:
    """Run `job` to its end, its limits, or until `cancel` is set (or the calling task is cancelled).

    Args:
        job: what to run, and the limits.
        cancel: set it to kill the program; the outcome is then `cancelled`.
        cache_dir: keeps compiled programs. Created with mode 0700; refused when others could write to it, since
            what lies there runs as native code. `prune_cache` bounds it.
        nice: how far the child steps back behind other processes (0 to 19).
        confine: called with the child's pid before it learns of its job, to bound it further; raises nothing.
        spare: a child that waits there is taken, and another one is prepared when the program came to its end.

    Raises:
        InvalidInput: the job itself is malformed, its program or stdin is no file, or its workspace was used before.
        NotAllowed: others can write to `cache_dir`.
        Unavailable: this machine could not run it (no memory to start, disk full): not the program's doing.
    """
    loop = asyncio.get_running_loop()
    line = await asyncio.to_thread(_prepare, job, cache_dir, nice)
    started = loop.time()
    child = spare.take() if spare is not None else Child()
    try:
        if confine is not None:
            confine(child.pid)
        child.give(line)
        await _wait(child, job.time_limit_s, cancel)
    finally:
        child.kill("cancelled")
        child.reap()
        wall_ms = round((loop.time() - started) * 1000)
        await asyncio.to_thread(shutil.rmtree, job.workspace / BLOBS, ignore_errors=True)
    if spare is not None and child.killed is None:
        spare.prepare()
    return _outcome(child, wall_ms)


async def _wait(child: Child, time_limit_s: float, cancel: asyncio.Event | None) -> None:
    """Return when the child has ended; make it end at the limit or when told to."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    async def watch(event: asyncio.Event) -> None:
        await event.wait()
        child.kill("cancelled")

    loop.add_reader(child.fd, ended.set)
    try:
        async with asyncio.TaskGroup() as group:
            watcher = group.create_task(watch(cancel)) if cancel is not None else None
            try:
                async with asyncio.timeout(time_limit_s):
                    await ended.wait()
            except TimeoutError:
                child.kill("time")
                await ended.wait()
            if watcher is not None:
                watcher.cancel()
    finally:
        loop.remove_reader(child.fd)


def _outcome(child: Child, wall_ms: int) -> WasmOutcome:
    status = child.status or 0
    if child.killed is not None:
        told = {"time": "the time limit was reached", "cancelled": "it was cancelled"}
        answer = _Answer(reason=child.killed, detail=told[child.killed], peak_memory_bytes=child.peak_memory_bytes)
    elif child.answer:
        answer = msgspec.json.decode(child.answer, type=_Answer)
    elif status < 0:
        answer = _Answer(
            reason=_SIGNALS.get(-status, "trap"), detail=f"the runner was ended by {signal.Signals(-status).name}"
        )
    else:
        answer = _Answer(broken=f"it ended with code {status} and no answer")
    if answer.broken:
        raise Unavailable("compute.runner_failed", f"The program could not be run here: {answer.broken}.")
    return WasmOutcome(
        exit_code=answer.exit_code,
        reason=answer.reason,
        detail=answer.detail,
        fuel_used=answer.fuel_used,
        wall_ms=wall_ms,
        cpu_ms=child.cpu_ms,
        peak_memory_bytes=answer.peak_memory_bytes,
    )


def _prepare(job: WasmJob, cache_dir: Path | None, nice: int) -> bytes:
    """Check the job, make its folders, and write it down as the child reads it."""
    problem = _problem(job, nice)
    if problem:
        raise InvalidInput("compute.bad_job", f"The job cannot be run: {problem}.")
    out = job.workspace / "out"
    for folder in (job.workspace / "in", out):
        folder.mkdir(mode=0o700, exist_ok=True)
    if any(out.iterdir()):
        raise InvalidInput("compute.workspace_used", f"{out} is not empty.", "Give every run a new workspace.")
    for name in ("stdout", "stderr"):
        (job.workspace / name).unlink(missing_ok=True)
    shutil.rmtree(job.workspace / BLOBS, ignore_errors=True)
    line = msgspec.json.encode(
        {
            "program": str(job.program.absolute()),
            "workspace": str(job.workspace.absolute()),
            "stdin": str(job.stdin.absolute()) if job.stdin is not None else None,
            "args": job.args,
            "env": job.env,
            "seed": job.seed.hex(),
            "fuel": job.fuel_max,
            "memory": job.memory_bytes_max,
            "output": job.output_bytes_max,
            "cpu_s": math.ceil(job.time_limit_s) + 1,
            "cached": str(compiled_path(job.program, cache_dir, ENGINE)) if cache_dir is not None else None,
            "nice": nice,
            "checkpoint": job.checkpoint,
        }
    )
    if len(line) >= _LINE_BYTES_MAX:
        raise TooMuch("compute.args_too_long", f"Arguments and environment exceed {_LINE_BYTES_MAX} bytes.")
    return line + b"\n"


def _problem(job: WasmJob, nice: int) -> str:
    texts = [*job.args, *job.env, *job.env.values()]
    checks = {
        "the program is not a file": job.program.is_file(),
        "stdin is not a file": job.stdin is None or (job.stdin.is_file() and not job.stdin.is_symlink()),
        "the workspace is not a folder": job.workspace.is_dir(),
        f"the seed must have {SEED_BYTES} bytes": len(job.seed) == SEED_BYTES,
        f"fuel_max must lie between 1 and {FUEL_MAX}": 1 <= job.fuel_max <= FUEL_MAX,
        f"memory_bytes_max must lie between 1 and {MEMORY_BYTES_MAX}": 1 <= job.memory_bytes_max <= MEMORY_BYTES_MAX,
        "output_bytes_max must lie between 0 and 2**40": 0 <= job.output_bytes_max <= 1 << 40,
        "time_limit_s must lie between 0 and 10**6": 0 < job.time_limit_s <= 10**6,
        "nice must lie between 0 and 19": 0 <= nice <= 19,  # noqa: PLR2004
        "arguments and environment may not hold NUL": not any("\0" in text for text in texts),
        "names in the environment may not be empty or hold '='": all(name and "=" not in name for name in job.env),
    }
    return next((problem for problem, fine in checks.items() if not fine), "")
