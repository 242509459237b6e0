"""A control group for one run: memory, processes and processor time, bounded by the kernel for all of them together.

Works where this process may make groups below its own (or, in version 2, beside it, as in a unit with
`DelegateSubgroup=`); elsewhere there is none, and the caller falls back to limits for each process.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_ROOT: Final = Path("/sys/fs/cgroup")
_OWN: Final = Path("/proc/self/cgroup")
_PERIOD_US: Final = 100_000
_CLOSE_TRIES: Final = 50
_KILL_TRIES: Final = 1000
_CLOSE_PAUSE_S: Final = 0.002
_NEEDED: Final = frozenset({"memory", "pids"})

_log = logging.getLogger(__name__)


class Group:
    """One run's group. `folders` maps each controller to its folder."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders = folders

    def add(self, pid: int) -> None:
        """Put a process in; what it starts later is in it too. OSError when it is gone."""
        for folder in set(self._folders.values()):
            (folder / "cgroup.procs").write_text(str(pid))

    @property
    def version(self) -> int:
        """Which version of control groups it is of, 1 or 2."""
        return 2 if (self._folders["memory"] / "memory.max").exists() else 1

    @property
    def out_of_memory(self) -> bool | None:
        """Whether the kernel had to end a process of the group for its memory; None where nobody knows (any more)."""
        found = (self._numbers(name).get("oom_kill") for name in ("memory.events", "memory.oom_control"))
        return next((ended > 0 for ended in found if ended is not None), None)

    @property
    def peak_memory_bytes(self) -> int:
        """The most memory that all processes held together; 0 where the kernel does not count it."""
        for name in ("memory.peak", "memory.max_usage_in_bytes"):
            with contextlib.suppress(OSError, ValueError):
                return int((self._folders["memory"] / name).read_text())
        return 0

    @property
    def cpu_ms(self) -> int:
        """Processor time of all its processes, those that have ended included; 0 where the kernel does not count it."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            return int((self._folders["cpuacct"] / "cpuacct.usage").read_text()) // 1_000_000
        return self._numbers("cpu.stat", "cpu").get("usage_usec", 0) // 1000

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self._folders["pids"].name

    def part(self, name: str) -> Part:
        """Make a group inside; OSError when this one is gone."""
        folder = self._folders["pids"] / name
        folder.mkdir()
        return Part(folder, "" if self._folders["memory"] == self._folders["pids"] else "pids")

    def close(self) -> None:
        """Remove it, after its processes have ended; call it in a thread: the kernel may take a moment to let go."""
        for folder in set(self._folders.values()):
            _remove(folder)

    def _numbers(self, name: str, controller: str = "memory") -> dict[str, int]:
        try:
            lines = (self._folders[controller] / name).read_text().splitlines()
        except (OSError, KeyError):
            return {}
        return {key: int(value) for key, _, value in (line.partition(" ") for line in lines) if value.isdecimal()}


class Part:
    """A group inside of a run's: its processes stand under the run's limits, and can be ended together.

    `controller` is the one by which they are told apart; empty in version 2, which has one tree for all.
    """

    def __init__(self, folder: Path, controller: str) -> None:
        self.controller = controller
        self._folder = folder

    @property
    def name(self) -> str:
        """Its name in the run's group."""
        return self._folder.name

    def add(self, pid: int) -> None:
        """Put a process in that is in the run's group; OSError when one of them is gone."""
        (self._folder / "cgroup.procs").write_text(str(pid))

    def kill(self) -> None:
        """End all its processes; call it in a thread: it waits for them."""
        _try(self._folder / "pids.max", "0")  # nothing can be born faster than it is ended
        _try(self._folder / "cgroup.kill", "1")
        for _ in range(_KILL_TRIES):
            pids = self._processes()
            if not pids:
                return
            for pid in pids:
                self._end(pid)
            time.sleep(_CLOSE_PAUSE_S)
        _log.error("processes of the group %s do not end", self._folder)

    def close(self) -> None:
        """End what is in it and remove it; nothing happens when that was done. Call it in a thread."""
        self.kill()
        _remove(self._folder)

    def _end(self, pid: int) -> None:
        """End one, by a descriptor that was opened while it was in the group: its number may come to mean another."""
        with contextlib.suppress(ProcessLookupError):
            process = os.pidfd_open(pid)
            try:
                if pid in self._processes():
                    signal.pidfd_send_signal(process, signal.SIGKILL)
            finally:
                os.close(process)

    def _processes(self) -> list[int]:
        try:
            return [int(pid) for pid in (self._folder / "cgroup.procs").read_text().split()]
        except OSError:
            return []


def _remove(folder: Path) -> None:
    for _ in range(_CLOSE_TRIES):
        try:
            folder.rmdir()
        except FileNotFoundError:
            break
        except OSError:
            time.sleep(_CLOSE_PAUSE_S)
        else:
            break


def sweep(prefix: str) -> None:
    """Remove groups whose names begin with `prefix` and a process id that is gone: their makers were killed."""
    for names, own in _own().items():
        here = _ROOT / names / own.lstrip("/")
        # Beside, too: see `_unified`.
        for folder in (*here.glob(f"{prefix}[0-9]*"), *here.parent.glob(f"{prefix}[0-9]*")):
            maker = folder.name.removeprefix(prefix).partition("-")[0]
            if not Path("/proc", maker).exists():
                for empty in (*folder.glob("*/"), folder):  # commands had groups inside
                    with contextlib.suppress(OSError):
                        empty.rmdir()


def find_group(pid: int, part: str) -> Group | None:
    """The group with `part` in its path that a process is in; None when it is in none, or gone."""
    folders = {}
    try:
        groups = _groups_of(Path(f"/proc/{pid}/cgroup"))
    except (FileNotFoundError, ProcessLookupError):
        return None
    for names, path in groups.items():
        # Version 2's line is there too where version 1 does the work.
        if part in path and (names or (_ROOT / "cgroup.controllers").exists()):
            controllers = names.split(",") if names else ("memory", "pids", "cpu")
            folders.update(dict.fromkeys(controllers, _ROOT / names / path.lstrip("/")))
    return Group(folders) if set(folders) >= _NEEDED else None


def open_group(name: str, *, memory_bytes: int, processes: int, cpu_milli: int) -> Group | None:
    """Make a group with these limits; None where that is not possible."""
    for make in (_unified, _separate):
        try:
            folders = make(name)
        except OSError as error:
            _log.debug("no control group by %s: %s", make.__name__, error)
            continue
        if folders is None:
            continue
        group = Group(folders)
        try:
            _limit(folders, memory_bytes, processes, cpu_milli)
        except OSError as error:
            _log.warning("a control group cannot be limited: %s", error)
            group.close()
            continue
        return group
    return None


def _limit(folders: Mapping[str, Path], memory_bytes: int, processes: int, cpu_milli: int) -> None:
    memory, pids = folders["memory"], folders["pids"]
    quota_us = max(1000, cpu_milli * _PERIOD_US // 1000)
    (pids / "pids.max").write_text(str(processes))
    if (memory / "memory.max").exists():
        (memory / "memory.max").write_text(str(memory_bytes))
        _try(memory / "memory.swap.max", "0")
        _try(memory / "memory.oom.group", "1")
        _try(memory / "cpu.max", f"{quota_us} {_PERIOD_US}")
        return
    (memory / "memory.limit_in_bytes").write_text(str(memory_bytes))
    _try(memory / "memory.memsw.limit_in_bytes", str(memory_bytes))
    if "cpu" in folders:
        _try(folders["cpu"] / "cpu.cfs_period_us", str(_PERIOD_US))
        _try(folders["cpu"] / "cpu.cfs_quota_us", str(quota_us))


def _try(path: Path, text: str) -> None:
    """Write where the kernel has it."""
    with contextlib.suppress(OSError):
        path.write_text(text)


def _own() -> dict[str, str]:
    """Own group for each set of controllers ("" is version 2's)."""
    return _groups_of(_OWN)


def _groups_of(file: Path) -> dict[str, str]:
    return {names: path for _, names, path in (line.split(":", 2) for line in file.read_text().splitlines())}


def _unified(name: str) -> dict[str, Path] | None:
    own = _own().get("")
    if own is None or not (_ROOT / "cgroup.controllers").exists():
        return None
    here = _ROOT / own.lstrip("/")
    for parent in (here, here.parent):
        control = parent / "cgroup.subtree_control"
        if parent.is_relative_to(_ROOT) and control.exists():
            if parent == here and not set(control.read_text().split()) >= _NEEDED:
                # Refused while this process itself is in there, unless it is the root.
                _try(control, "+memory +pids +cpu")
            if set(control.read_text().split()) >= _NEEDED:
                folder = parent / name
                folder.mkdir()
                return dict.fromkeys(("memory", "pids", "cpu"), folder)
    return None


def _separate(name: str) -> dict[str, Path] | None:
    folders = {}
    made: list[Path] = []
    for names, own in _own().items():
        for controller in {"memory", "pids", "cpu"} & set(names.split(",")):
            folder = _ROOT / names / own.lstrip("/") / name
            try:
                folder.mkdir(exist_ok=folder in made)
            except OSError:
                for other in made:
                    other.rmdir()
                raise
            made.append(folder)
            folders[controller] = folder
    return folders if set(folders) >= _NEEDED else None
