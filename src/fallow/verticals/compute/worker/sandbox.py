"""Run a Python program in a bubblewrap sandbox without network, and see to its end."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final, Literal, NamedTuple

from fallow.domain.errors import Unavailable
from fallow.verticals.compute.worker.cgroups import Group, open_group
from fallow.verticals.compute.worker.sandbox_child import Child, pick_host_id
from fallow.verticals.compute.worker.sandbox_root import Interpreter, Tools
from fallow.verticals.compute.worker.sandbox_start import PROCESSES_MAX, SandboxJob, bound, make_writable, start
from fallow.verticals.compute.worker.watch import disk_bytes, memory_bytes

__all__ = ["PROCESSES_MAX", "SandboxJob", "SandboxOutcome", "run_sandboxed"]

Reason = Literal["exited", "time", "memory", "output", "cancelled", "invalid"]

GROUP_PREFIX: Final = "fallow-"
GRACE_S: Final = 1.0
"""How long before the end of its time a program is asked to end; half of it when its owner wants the machine back."""
LOOK_EVERY_S: Final = 0.1
"""How often disk (and memory, without control groups) are looked at: what a program takes in between is its excess."""
_SIGXCPU_EXIT: Final = 128 + 24
_TAIL_BYTES: Final = 4096


class SandboxOutcome(NamedTuple):
    """How it ended. `exit_code` is -1 unless the reason is `exited`."""

    exit_code: int
    reason: Reason
    detail: str
    wall_ms: int
    cpu_ms: int
    peak_memory_bytes: int


async def run_sandboxed(
    job: SandboxJob, tools: Tools, interpreter: Interpreter, *, cancel: asyncio.Event | None = None
) -> SandboxOutcome:
    """Run a program to its end, its limits, or until `cancel` is set (or the calling task is cancelled).

    No process of it is left afterwards. Its folders are as it left them: trust nothing in them.

    Raises:
        Unavailable: this machine could not run it: not the program's doing.
    """
    loop = asyncio.get_running_loop()
    host_id = pick_host_id(str(job.folders.work))
    await asyncio.to_thread(make_writable, job, host_id)
    group = open_group(
        f"{GROUP_PREFIX}{os.getpid()}-{id(job):x}",
        memory_bytes=job.memory_bytes_max,
        processes=PROCESSES_MAX,
        cpu_milli=job.cpu_milli,
    )
    try:
        child = start(job, tools, interpreter, as_root=host_id is not None)
        run = _Run(job, child, group)
        started = loop.time()
        try:
            if await child.held():
                bound(child, job, group, host_id)
                started = loop.time()
                child.release()
            await run.wait(cancel)
        finally:
            child.kill()
            await asyncio.shield(asyncio.to_thread(child.gone))
            child.reap()
        wall_ms = round((loop.time() - started) * 1000)
        return await asyncio.to_thread(run.outcome, wall_ms)
    finally:
        if group is not None:
            await asyncio.shield(asyncio.to_thread(group.close))


class _Run:
    """What is decided about a run while it goes on: why it has to end."""

    def __init__(self, job: SandboxJob, child: Child, group: Group | None) -> None:
        self._job = job
        self._child = child
        self._group = group
        self._reason: Reason | None = None
        self._peak_memory_bytes = 0

    async def wait(self, cancel: asyncio.Event | None) -> None:
        """Return when the sandbox has ended; make it end when it has to."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        ends = loop.time() + self._job.time_limit_s
        grace_s = min(GRACE_S, self._job.time_limit_s / 4)
        loop.add_reader(self._child.fd, ended.set)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._look(ended))]
                if cancel is not None:
                    tasks.append(group.create_task(self._end_when(cancel, ended, grace_s / 2)))
                if not await _within(ended, ends - grace_s - loop.time()):
                    self._child.ask_to_end()
                    if not await _within(ended, ends - loop.time()):
                        self._end("time")
                    elif self._reason is None:
                        self._reason = "time"
                await ended.wait()
                for task in tasks:
                    task.cancel()
        finally:
            loop.remove_reader(self._child.fd)

    def outcome(self, wall_ms: int) -> SandboxOutcome:
        """Say how it ended, after it has.

        Raises:
            Unavailable: it never began.
        """
        child, group = self._child, self._group
        code = child.exit_code
        if self._reason is None and self._disk_bytes() > self._job.disk_bytes_max:
            self._reason = "output"
        if self._reason is None and code != 0 and group is not None and group.out_of_memory:
            self._reason = "memory"
        if self._reason is None and code is None:
            why = _tail(self._job.stderr) or f"it ended with {child.status} before the program began"
            raise Unavailable("compute.sandbox", f"The sandbox could not be set up: {why}.")
        if self._reason is None and code == _SIGXCPU_EXIT:
            self._reason = "time"
        # Without a control group the kernel refuses memory instead, and the interpreter says so.
        if self._reason is None and code != 0 and _tail(self._job.stderr).startswith("MemoryError"):
            self._reason = "memory"
        peak = group.peak_memory_bytes if group is not None else 0
        return SandboxOutcome(
            exit_code=code if self._reason is None and code is not None else -1,
            reason=self._reason or "exited",
            detail=self._detail(),
            wall_ms=wall_ms,
            cpu_ms=child.cpu_ms,
            peak_memory_bytes=peak or max(child.peak_memory_bytes, self._peak_memory_bytes),
        )

    def _detail(self) -> str:
        told = {
            "time": f"its time of {self._job.time_limit_s:g} s was over",
            "memory": f"it needed more than {self._job.memory_bytes_max >> 20} MiB of memory",
            "output": f"it wrote more than {self._job.disk_bytes_max >> 20} MiB to the disk",
            "cancelled": "it was cancelled",
        }
        return told.get(self._reason or "", "")

    async def _look(self, ended: asyncio.Event) -> None:
        """Look at what cannot be bounded by the kernel, and end the program when it takes too much."""
        loop = asyncio.get_running_loop()
        pause_s = LOOK_EVERY_S
        while not await _within(ended, pause_s):
            began = loop.time()
            if await asyncio.to_thread(self._disk_bytes) > self._job.disk_bytes_max:
                self._end("output")
            if self._group is None:
                held = await asyncio.to_thread(memory_bytes, self._child.pid)
                self._peak_memory_bytes = max(self._peak_memory_bytes, held)
                if held > self._job.memory_bytes_max:
                    self._end("memory")
            pause_s = max(LOOK_EVERY_S, 5 * (loop.time() - began))

    async def _end_when(self, cancel: asyncio.Event, ended: asyncio.Event, grace_s: float) -> None:
        await cancel.wait()
        if self._reason is None and not self._child.ended:
            self._reason = "cancelled"
        self._child.ask_to_end()
        await _within(ended, grace_s)
        self._child.kill()

    def _end(self, reason: Reason) -> None:
        if self._reason is None and not self._child.ended:
            self._reason = reason
        self._child.kill()

    def _disk_bytes(self) -> int:
        job = self._job
        return disk_bytes((job.folders.outputs, job.folders.work, job.stdout, job.stderr))


async def _within(event: asyncio.Event, seconds: float) -> bool:
    """Whether it is set within that time."""
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await event.wait()
    except TimeoutError:
        return False
    return True


def _tail(path: Path) -> str:
    """Last line of a file that a stranger wrote, as text."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        lines = file.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
