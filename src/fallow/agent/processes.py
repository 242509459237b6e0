"""Whose processes take the processor: ours (this agent and all that it started), or others'."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterator
from pathlib import Path

from fallow.agent.policy import Unknown

COMM_BYTES = 15
"""The kernel keeps so much of a program's name."""

_TICKS_MIN = 20
"""Fewer ticks of the processors than that (a fifth of a second on one core) say too little."""

_UTIME, _STIME, _CUTIME, _CSTIME = 11, 12, 13, 14  # in /proc/PID/stat, counted behind the program's name


class OthersLoad:
    """What of the machine's processors goes to others; each `look` is about the time since the last one.

    A process that ends hands its times to the one that waits for it, so that the times of our tree only grow, whoever
    in it comes and goes. One that left our tree (a daemon) counts as somebody else's.
    """

    def __init__(self, proc: Path, pid: int) -> None:
        self.percent: float | Unknown = Unknown("It has not been measured for long enough yet.")
        self._proc = proc
        self._pid = pid
        self._last: tuple[int, int, int] | None = None
        self._lock = threading.Lock()
        self._blind = not (proc / str(pid) / "task" / str(pid) / "children").exists()
        self.look()

    def look(self) -> frozenset[int]:
        """Measure, and return the pids that are ours."""
        with self._lock:
            try:
                total, idle = self._machine()
            except (OSError, ValueError, IndexError) as error:
                self.percent = Unknown(f"{self._proc / 'stat'} cannot be read: {error}.")
                return frozenset({self._pid})
            own = 0
            ours = set()
            for pid, ticks in self._tree():
                own += ticks
                ours.add(pid)
            if self._blind:
                self.percent = Unknown("This kernel does not tell a process's children (CONFIG_PROC_CHILDREN).")
            else:
                self._compare(total, idle, own)
            return frozenset(ours)

    def _compare(self, total: int, idle: int, own: int) -> None:
        if self._last is None:
            self._last = (total, idle, own)
            return
        passed, idled, worked = total - self._last[0], idle - self._last[1], own - self._last[2]
        if passed < _TICKS_MIN:
            return
        self._last = (total, idle, own)
        # Idle time may seem to go back a little; ours is read a moment later than the machine's.
        self.percent = min(100.0, max(0.0, 100 * (passed - max(0, idled) - max(0, worked)) / passed))

    def _machine(self) -> tuple[int, int]:
        """Ticks of all cores: all, and idle (waiting for disks included, and what a hypervisor gave to others)."""
        with (self._proc / "stat").open() as file:
            fields = [int(field) for field in file.readline().split()[1:9]]
        user, nice, system, idle, iowait, irq, softirq, steal = fields
        return sum((user, nice, system, idle, iowait, irq, softirq, steal)), idle + iowait + steal

    def _tree(self) -> Iterator[tuple[int, int]]:
        """Our processes with their ticks, and those of children that they have waited for."""
        waiting = [self._pid]
        while waiting:
            pid = waiting.pop()
            folder = f"{self._proc}/{pid}"
            try:
                with open(f"{folder}/stat", "rb") as file:  # noqa: PTH123 - twice as fast, every second
                    fields = file.read().rpartition(b")")[2].split()
                yield pid, sum(int(fields[index]) for index in (_UTIME, _STIME, _CUTIME, _CSTIME))
                for task in os.listdir(f"{folder}/task"):  # noqa: PTH208 - twice as fast, every second
                    with open(f"{folder}/task/{task}/children", "rb") as file:  # noqa: PTH123
                        waiting += [int(child) for child in file.read().split()]
            except (OSError, IndexError):
                continue


def running(proc: Path, names: Collection[str], ours: Collection[int]) -> tuple[str, ...] | Unknown:
    """Those of `names` that run, other than in `ours`. Names are as `ps -e` shows them, in any case of letters."""
    wanted = {name.lower()[:COMM_BYTES]: name for name in names}
    found = set()
    try:
        pids = [name for name in os.listdir(proc) if name.isdecimal()]  # noqa: PTH208 - twice as fast, every second
    except OSError as error:
        return Unknown(f"{proc} cannot be read: {error}.")
    for pid in pids:
        try:
            with open(f"{proc}/{pid}/comm") as file:  # noqa: PTH123 - twice as fast, every second
                comm = file.read().strip().lower()
        except OSError:
            continue
        if comm in wanted and int(pid) not in ours:
            found.add(wanted[comm])
    return tuple(sorted(found))
