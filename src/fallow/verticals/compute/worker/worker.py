"""The provider's side of compute: fetch, run, store what came out, say how it ended."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from pathlib import Path
from typing import Final

from fallow.domain.errors import FallowError, InvalidInput, TooMuch
from fallow.domain.leases import CHECKPOINT_UNUSABLE
from fallow.ports.vertical.capacity import Exercise
from fallow.ports.vertical.work import Assignment, Finished
from fallow.ports.vertical.worker import Probe, Say, Worker
from fallow.verticals.compute.core.capacity import Steps
from fallow.verticals.compute.core.work import ContainerWork, WasmWork, Work
from fallow.verticals.compute.worker.checkpoints import checkpointed, restore
from fallow.verticals.compute.worker.confine import confined, enforcement
from fallow.verticals.compute.worker.container import ContainerRunner
from fallow.verticals.compute.worker.course import RunOutcome
from fallow.verticals.compute.worker.exertion import exert
from fallow.verticals.compute.worker.python import PythonRunner
from fallow.verticals.compute.worker.transfers import PROGRAM, Ended, broken, fetch_all, store_all, unless_cancelled
from fallow.verticals.compute.worker.wasm import (
    ENGINE,
    MEMORY_BYTES_MAX,
    WasmJob,
    WasmOutcome,
    prune_cache,
    run_wasm,
)
from fallow.verticals.compute.worker.wasm_kept import FOLDER, could_be_kept
from fallow.verticals.compute.worker.wasm_start import Spare

COMPILED_BYTES_MAX: Final = 1 << 30
PRUNE_EVERY: Final = 64

# A module whose `_start` does nothing: what works with it works here at all.
_NOTHING: Final = bytes.fromhex(
    "0061736d01000000 010401600000 03020100 0503010001 071302065f73746172740000066d656d6f72790200 0a040102000b"
)
_log = logging.getLogger(__name__)


class ComputeWorker(Worker):
    """Runs WASI programs, Python scripts and containers. `cache` keeps them ready for the next time."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._runs = 0
        self._spare = Spare()
        self._python = PythonRunner(cache)
        self._containers = ContainerRunner(cache)

    async def probe(self) -> Probe:
        """Really run a program of each kind; see the port."""
        found = [await self._probe_wasm(), await self._python.probe(), await self._containers.probe()]
        bounds = await asyncio.to_thread(enforcement)
        found.append(Probe({"compute.enforcement": bounds.kind}, {"enforcement": bounds.why} if bounds.why else {}))
        return Probe(
            {name: value for probe in found for name, value in probe.attributes.items()},
            {name: why for probe in found for name, why in probe.missing.items()},
        )

    async def exert(self, exercise: Exercise) -> Steps:
        """See the port."""
        return await exert(exercise)

    async def report(self, say: Say) -> None:
        """See the port: what compute has to say belongs to a lease."""

    async def erase(self, *, for_good: bool) -> None:
        """See the port: images can be had again by whoever comes back."""
        del for_good
        await self._containers.erase()

    async def _probe_wasm(self) -> Probe:
        try:
            outcome = await self._try()
        except (FallowError, OSError) as error:
            return Probe({}, {"wasm": f"No WebAssembly program runs here: {error}"})
        if (outcome.reason, outcome.exit_code) != ("exited", 0):
            return Probe({}, {"wasm": f"A WebAssembly program that does nothing failed: {outcome.detail}."})
        return Probe({"compute.wasm": "wasi-p1", "compute.wasm.engine": ENGINE}, {})

    async def run(self, assignment: Assignment) -> Finished:
        """See the port."""
        try:
            work = await unless_cancelled(assignment.cancel, fetch_all(assignment))
            outcome = await self._execute(work, assignment)
            stopped = outcome.reason == "cancelled"
            if stopped and not assignment.until_stopped:
                return Finished(False, "cancelled", "nobody", outcome.wall_ms, None, {})
            reason = "program.exit" if outcome.reason == "exited" else f"program.{outcome.reason}"
            if outcome.exit_code == 0 or stopped:
                reason = ""
            storing = store_all(work, assignment, outcome, reason)
            # What a process leaves that is stopped is its result, however it was stopped.
            hurry = asyncio.Event() if assignment.until_stopped else assignment.cancel
            stored = await unless_cancelled(hurry, storing, outcome.wall_ms)
        except Ended as ended:
            return Finished(False, ended.reason, ended.caused_by, ended.used_ms, None, {})
        return Finished(
            ok=not reason,
            reason=reason,
            caused_by="buyer" if reason else "nobody",
            used_ms=0 if outcome.reason == "invalid" else outcome.wall_ms,
            result=stored.result,
            measures={
                **({"fuel": outcome.fuel_used} if isinstance(outcome, WasmOutcome) else {}),
                "cpu_ms": outcome.cpu_ms,
                "peak_memory_bytes": outcome.peak_memory_bytes,
                "output_bytes": stored.size,
            },
        )

    async def _execute(self, work: Work, assignment: Assignment) -> WasmOutcome | RunOutcome:
        if isinstance(work, WasmWork):
            return await self._execute_wasm(work, assignment)
        if isinstance(work, ContainerWork):
            return await self._containers.run(work, assignment)
        return await self._python.run(work, assignment)

    async def _execute_wasm(self, work: WasmWork, assignment: Assignment) -> WasmOutcome:
        job = WasmJob(
            program=assignment.workspace / PROGRAM,
            workspace=assignment.workspace,
            seed=assignment.seed,
            fuel_max=work.fuel,
            memory_bytes_max=min(assignment.resources.memory_mib << 20, MEMORY_BYTES_MAX),
            output_bytes_max=work.output_mib << 20,
            time_limit_s=assignment.time_limit_s,
            args=tuple(work.args),
            env=work.env,
            checkpoint=work.checkpoints,
        )
        bytes_max = work.output_mib << 20
        if work.checkpoints:
            await restore(assignment, bytes_max)
            if not await asyncio.to_thread(could_be_kept, assignment.workspace / FOLDER, bytes_max):
                raise Ended(CHECKPOINT_UNUSABLE, "nobody")
        assignment.started.set()
        try:
            async with confined(assignment.resources) as confine:
                running = run_wasm(
                    job, cancel=assignment.cancel, cache_dir=self._compiled, confine=confine, spare=self._spare
                )
                outcome = await checkpointed(assignment, work.checkpoint_s, bytes_max, running)
        except (InvalidInput, TooMuch) as error:
            _log.info("the job cannot be run: %s", error)
            raise Ended("program.invalid", "buyer") from error
        except (FallowError, OSError) as error:
            _log.warning("the runner failed: %s", error)
            raise broken(error) from error
        await self._prune()
        return outcome

    async def _try(self) -> WasmOutcome:
        await asyncio.to_thread(self._cache.mkdir, mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._cache) as folder:
            program = Path(folder, PROGRAM)
            await asyncio.to_thread(program.write_bytes, _NOTHING)
            job = WasmJob(
                program=program,
                workspace=Path(folder),
                seed=bytes(32),
                fuel_max=1_000_000,
                memory_bytes_max=1 << 20,
                output_bytes_max=0,
                time_limit_s=20,
            )
            return await run_wasm(job, cache_dir=self._compiled)

    @property
    def _compiled(self) -> Path:
        return self._cache / "compiled"

    async def _prune(self) -> None:
        if self._runs % PRUNE_EVERY == 0:
            await asyncio.to_thread(prune_cache, self._compiled, COMPILED_BYTES_MAX)
        self._runs += 1
