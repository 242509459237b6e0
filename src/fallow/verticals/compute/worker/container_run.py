"""One program in a container, from its start to its end, within its limits."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
from collections.abc import Callable
from contextlib import closing
from typing import Final, NamedTuple

from fallow.ports.vertical.work import Opened, closed
from fallow.verticals.compute.worker.cgroups import Group
from fallow.verticals.compute.worker.checkpoints import FOLDER
from fallow.verticals.compute.worker.container_job import ContainerJob
from fallow.verticals.compute.worker.container_start import Launch
from fallow.verticals.compute.worker.course import Bounds, Course, RunOutcome, Verdict
from fallow.verticals.compute.worker.engine import Engine
from fallow.verticals.compute.worker.inside import way_in

_SIGXCPU_EXIT: Final = 128 + 24


class First:
    """The first process of a container, which takes all others along when it ends."""

    def __init__(self, pid: int) -> None:
        """Hold on to it. Raises ProcessLookupError when it has ended."""
        self.pid = pid
        self.fd = os.pidfd_open(pid)

    @property
    def ended(self) -> bool:
        """Whether it has."""
        return bool(select.select([self.fd], [], [], 0)[0])

    def ask_to_end(self) -> None:
        """Send SIGTERM."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self._send(signal.SIGKILL)

    def close(self) -> None:
        """Let go of it."""
        os.close(self.fd)

    def _send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.fd, number)


async def run_container(
    job: ContainerJob, engine: Engine, *, cancel: asyncio.Event, started: Callable[[], None], opened: Opened = closed
) -> RunOutcome:
    """Run a program to its end, its limits, or until `cancel` is set (or the calling task is cancelled).

    `started` is called when it begins. No process of it is left afterwards, and its container is removed.

    Raises:
        InvalidInput: the image does not have what it is to run.
        Unavailable: this machine could not run it: not the program's doing.
    """
    launch = await asyncio.to_thread(Launch, job, engine)
    try:
        pid = await launch.pid(cancel)
        if pid is None:
            return RunOutcome(-1, "cancelled", "it was cancelled", 0, 0, 0)
        started()
        first = _hold(pid)
        if first is None:  # it began and ended between two looks
            return await _ended(job, engine, launch, Verdict(_bounds(job)), _Used(None, 0, 0), 1)
        group = engine.group(first.pid)
        with closing(first):
            async with way_in(first.fd, opened, engine.entrance(group)):
                return await _watched(job, engine, first, group, launch, cancel)
    finally:
        await asyncio.shield(launch.close())


async def _watched(
    job: ContainerJob, engine: Engine, first: First, group: Group | None, launch: Launch, cancel: asyncio.Event
) -> RunOutcome:
    loop = asyncio.get_running_loop()
    course = Course(_bounds(job), first, group)
    begun = loop.time()
    try:
        await course.wait(cancel)
    finally:
        first.kill()
    wall_ms = max(1, round((loop.time() - begun) * 1000))
    return await _ended(job, engine, launch, course, _used(group, course), wall_ms)


async def _ended(
    job: ContainerJob, engine: Engine, launch: Launch, verdict: Verdict, used: _Used, wall_ms: int
) -> RunOutcome:
    """Say how a program ended that is over, however quickly it was."""
    code, starved = await launch.exit_code(), used.out_of_memory
    verdict.judge("output", when=await asyncio.to_thread(verdict.disk_is_full))
    if code != 0 and starved is None:
        starved = await engine.out_of_memory(job)
    verdict.judge("memory", when=code != 0 and bool(starved))
    verdict.judge("time", when=code == _SIGXCPU_EXIT)
    return verdict.outcome(code, wall_ms, used.cpu_ms, used.peak_memory_bytes)


def _bounds(job: ContainerJob) -> Bounds:
    folder = job.folder
    writable = (folder / "out", folder / "work", folder / FOLDER, folder / "stdout", folder / "stderr")
    return Bounds(job.time_limit_s, job.memory_bytes_max, job.disk_bytes_max, writable)


def _hold(pid: int) -> First | None:
    try:
        return First(pid) if pid else None
    except ProcessLookupError:
        return None


class _Used(NamedTuple):
    out_of_memory: bool | None
    cpu_ms: int
    peak_memory_bytes: int


def _used(group: Group | None, course: Course) -> _Used:
    """What the program took. At once after its end: the engine soon removes the group, and nobody knows any more."""
    if group is None:
        return _Used(None, course.cpu_ms, course.peak_memory_bytes)
    peak_memory_bytes = max(course.peak_memory_bytes, group.peak_memory_bytes)
    return _Used(group.out_of_memory, max(course.cpu_ms, group.cpu_ms), peak_memory_bytes)
