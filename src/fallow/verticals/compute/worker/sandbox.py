"""Run a Python program in a bubblewrap sandbox without network, and see to its end."""

from __future__ import annotations

import asyncio
import os
from typing import Final

from fallow.domain.errors import Unavailable
from fallow.ports.vertical.work import Opened, closed
from fallow.verticals.compute.worker.cgroups import Group, open_group
from fallow.verticals.compute.worker.course import Bounds, Course, RunOutcome, tail
from fallow.verticals.compute.worker.enter import SandboxEntrance
from fallow.verticals.compute.worker.inside import way_in
from fallow.verticals.compute.worker.sandbox_child import Child, pick_host_id
from fallow.verticals.compute.worker.sandbox_root import Interpreter, Tools
from fallow.verticals.compute.worker.sandbox_start import PROCESSES_MAX, SandboxJob, bound, make_writable, start

__all__ = ["PROCESSES_MAX", "SandboxJob", "run_sandboxed"]

GROUP_PREFIX: Final = "fallow-"
_SIGXCPU_EXIT: Final = 128 + 24


async def run_sandboxed(
    job: SandboxJob,
    tools: Tools,
    interpreter: Interpreter,
    *,
    cancel: asyncio.Event | None = None,
    opened: Opened = closed,
) -> RunOutcome:
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
        course = Course(_bounds(job), child, group)
        started = loop.time()
        try:
            process = await child.held()
            if process is None:  # it ended instead
                await course.wait(cancel)
            else:
                bound(child, job, group, host_id)
                started = loop.time()
                child.release()
                as_root = host_id is not None
                entrance = SandboxEntrance(job, interpreter, group, process, as_root=as_root) if group else None
                async with way_in(process, opened, entrance):
                    await course.wait(cancel)
        finally:
            child.kill()
            await asyncio.shield(asyncio.to_thread(child.gone))
            child.reap()
        wall_ms = round((loop.time() - started) * 1000)
        return await asyncio.to_thread(_outcome, job, child, group, course, wall_ms)
    finally:
        if group is not None:
            await asyncio.shield(asyncio.to_thread(group.close))


def _bounds(job: SandboxJob) -> Bounds:
    writable = (job.folders.outputs, job.folders.work, job.folders.checkpoint, job.stdout, job.stderr)
    return Bounds(job.time_limit_s, job.memory_bytes_max, job.disk_bytes_max, writable)


def _outcome(job: SandboxJob, child: Child, group: Group | None, course: Course, wall_ms: int) -> RunOutcome:
    """Say how it ended, after it has.

    Raises:
        Unavailable: it never began.
    """
    code = child.exit_code
    course.judge("output", when=course.disk_is_full())
    course.judge("memory", when=code != 0 and group is not None and bool(group.out_of_memory))
    if course.reason is None and code is None:
        why = tail(job.stderr) or f"it ended with {child.status} before the program began"
        raise Unavailable("compute.sandbox", f"The sandbox could not be set up: {why}.")
    course.judge("time", when=code == _SIGXCPU_EXIT)
    # Without a control group the kernel refuses memory instead, and the interpreter says so.
    course.judge("memory", when=code != 0 and tail(job.stderr).startswith("MemoryError"))
    peak = group.peak_memory_bytes if group is not None else 0
    return course.outcome(code, wall_ms, child.cpu_ms, peak or max(child.peak_memory_bytes, course.peak_memory_bytes))
