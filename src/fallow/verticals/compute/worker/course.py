"""What is decided about a run while it goes on: why it has to end, and that it then does."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final, Literal, NamedTuple, Protocol

from fallow.verticals.compute.worker.cgroups import Group
from fallow.verticals.compute.worker.watch import cpu_ms, disk_bytes, memory_bytes

Reason = Literal["exited", "time", "memory", "output", "cancelled", "invalid"]

GRACE_S: Final = 1.0
"""How long before the end of its time a program is asked to end; half of it when its owner wants the machine back."""
LOOK_EVERY_S: Final = 0.1
"""How often disk (and memory, without control groups) are looked at: what a program takes in between is its excess."""
_TAIL_BYTES: Final = 4096


class Bounds(NamedTuple):
    """What a run may take. All that lies under `writable` counts as its disk."""

    time_s: float
    memory_bytes: int
    disk_bytes: int
    writable: tuple[Path, ...]


class Contained(Protocol):
    """A program in its sandbox. `fd` becomes readable when it has ended; `pid` is that of its first process."""

    fd: int
    pid: int

    @property
    def ended(self) -> bool:
        """Whether the program is over."""
        ...

    def ask_to_end(self) -> None:
        """Ask it politely."""
        ...

    def kill(self) -> None:
        """End everything in it, at once; nothing happens when it is over."""
        ...


class RunOutcome(NamedTuple):
    """How it ended. `exit_code` is -1 unless the reason is `exited`."""

    exit_code: int
    reason: Reason
    detail: str
    wall_ms: int
    cpu_ms: int
    peak_memory_bytes: int


class Verdict:
    """Of one run: `reason` is why it had to end; None when it ended by itself."""

    def __init__(self, bounds: Bounds) -> None:
        self.reason: Reason | None = None
        self._bounds = bounds

    def outcome(self, code: int | None, wall_ms: int, cpu_ms: int, peak_memory_bytes: int) -> RunOutcome:
        """Say how it ended, with the code that it returned if it did."""
        bounds = self._bounds
        told = {
            "time": f"its time of {bounds.time_s:g} s was over",
            "memory": f"it needed more than {bounds.memory_bytes >> 20} MiB of memory",
            "output": f"it wrote more than {bounds.disk_bytes >> 20} MiB to the disk",
            "cancelled": "it was cancelled",
        }
        return RunOutcome(
            exit_code=code if self.reason is None and code is not None else -1,
            reason=self.reason or "exited",
            detail=told.get(self.reason or "", ""),
            wall_ms=wall_ms,
            cpu_ms=cpu_ms,
            peak_memory_bytes=peak_memory_bytes,
        )

    def judge(self, reason: Reason, *, when: bool) -> None:
        """Give a reason afterwards, unless there is one."""
        if self.reason is None and when:
            self.reason = reason

    def disk_is_full(self) -> bool:
        """Whether there is more on the disk than it may write."""
        return disk_bytes(self._bounds.writable) > self._bounds.disk_bytes


class Course(Verdict):
    """One run that goes on.

    `peak_memory_bytes` and `cpu_ms` are what was seen of it; its control group, if it has one, counts more exactly.
    """

    def __init__(self, bounds: Bounds, contained: Contained, group: Group | None) -> None:
        super().__init__(bounds)
        self.peak_memory_bytes = 0
        self.cpu_ms = 0
        self._contained = contained
        self._group = group

    async def wait(self, cancel: asyncio.Event | None) -> None:
        """Return when the sandbox has ended; make it end when it has to."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        ends = loop.time() + self._bounds.time_s
        grace_s = min(GRACE_S, self._bounds.time_s / 4)
        loop.add_reader(self._contained.fd, ended.set)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._look(ended))]
                if cancel is not None:
                    tasks.append(group.create_task(self._end_when(cancel, ended, grace_s / 2)))
                if not await within(ended, ends - grace_s - loop.time()):
                    self._contained.ask_to_end()
                    if not await within(ended, ends - loop.time()):
                        self._end("time")
                    elif self.reason is None:
                        self.reason = "time"
                await ended.wait()
                for task in tasks:
                    task.cancel()
        finally:
            loop.remove_reader(self._contained.fd)

    async def _look(self, ended: asyncio.Event) -> None:
        """Look at what cannot be bounded by the kernel, and end the program when it takes too much."""
        loop = asyncio.get_running_loop()
        pause_s = LOOK_EVERY_S
        while not await within(ended, pause_s):
            began = loop.time()
            if await asyncio.to_thread(self.disk_is_full):
                self._end("output")
            if self._group is None:
                self.cpu_ms = max(self.cpu_ms, await asyncio.to_thread(cpu_ms, self._contained.pid))
                held = await asyncio.to_thread(memory_bytes, self._contained.pid)
                self.peak_memory_bytes = max(self.peak_memory_bytes, held)
                if held > self._bounds.memory_bytes:
                    self._end("memory")
            else:
                self.cpu_ms = max(self.cpu_ms, self._group.cpu_ms)
                self.peak_memory_bytes = max(self.peak_memory_bytes, self._group.peak_memory_bytes)
            pause_s = max(LOOK_EVERY_S, 5 * (loop.time() - began))

    async def _end_when(self, cancel: asyncio.Event, ended: asyncio.Event, grace_s: float) -> None:
        await cancel.wait()
        if self.reason is None and not self._contained.ended:
            self.reason = "cancelled"
        self._contained.ask_to_end()
        await within(ended, grace_s)
        self._contained.kill()

    def _end(self, reason: Reason) -> None:
        if self.reason is None and not self._contained.ended:
            self.reason = reason
        self._contained.kill()


async def within(event: asyncio.Event, seconds: float) -> bool:
    """Whether it is set within that time."""
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await event.wait()
    except TimeoutError:
        return False
    return True


def tail(path: Path) -> str:
    """Last line of a file that a stranger wrote, as text."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        lines = file.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
