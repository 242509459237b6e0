"""What a run takes while it runs, and its folders afterwards: looked at from outside, trusting nothing in them."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from fallow.domain.errors import TooMuch

ENTRIES_MAX: Final = 100_000
DEPTH_MAX: Final = 64
PATH_BYTES_MAX: Final = 2048
_ENTRY_BYTES: Final = 4096
_OWNER_ALL: Final = 0o700


def disk_bytes(paths: Iterable[Path]) -> int:
    """Bytes on the disk under `paths`, at least 4 KiB for each entry, so that empty files count too.

    What vanishes or cannot be entered meanwhile counts nothing; more than ENTRIES_MAX entries count as endless.
    """
    total = 0
    for count, status in enumerate(_statuses(paths)):
        if count >= ENTRIES_MAX:
            return 1 << 62
        total += max(_ENTRY_BYTES, status.st_blocks * 512)
    return total


def _statuses(paths: Iterable[Path]) -> Iterator[os.stat_result]:
    waiting = [str(path) for path in paths]
    while waiting:
        path = waiting.pop()
        try:
            status = os.lstat(path)
            yield status
            if stat.S_ISDIR(status.st_mode):
                with os.scandir(path) as entries:
                    waiting += [entry.path for entry in entries]
        except OSError:
            continue


def memory_bytes(pid: int) -> int:
    """Physical memory of a process and all that it started, shared pages counted once as far as the kernel says."""
    total = 0
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        waiting += children(one)
        with contextlib.suppress(OSError, ValueError):
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
    return total


def cpu_ms(pid: int) -> int:
    """Processor time of a process and all that it started, as far as they live or were waited for."""
    ticks = 0
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        waiting += children(one)
        with contextlib.suppress(OSError, ValueError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(field) for field in fields[11:15])  # utime, stime, cutime, cstime
    return ticks * 1000 // os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    """Pids of the processes that `pid` has started and that have not been waited for."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def open_up(folder: Path) -> None:
    """Make all folders below readable by this user, and see that they are fit to be walked through.

    Raises:
        TooMuch: they are too deep, too many, or too long.
    """
    waiting = [(folder, 0)]
    count = 0
    while waiting:
        path, depth = waiting.pop()
        if depth > DEPTH_MAX or len(os.fsencode(path)) - len(os.fsencode(folder)) > PATH_BYTES_MAX:
            raise TooMuch("compute.outputs_too_deep", f"The outputs lie more than {DEPTH_MAX} folders deep.")
        with contextlib.suppress(PermissionError):  # of root's job: root reads it anyway
            path.chmod(_OWNER_ALL)
        with os.scandir(path) as entries:
            for entry in entries:
                count += 1
                if count > ENTRIES_MAX:
                    raise TooMuch("compute.too_many_outputs", f"The program left more than {ENTRIES_MAX} files.")
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((Path(entry.path), depth + 1))
                elif entry.is_file(follow_symlinks=False):
                    with contextlib.suppress(PermissionError):
                        Path(entry.path).chmod(0o600)


def wipe(folder: Path) -> None:
    """Remove a folder however deep it is: no path in it is ever written out, nothing is done recursively.

    Each folder that is found is first moved up to the top. What cannot be removed stays.
    """
    if not folder.is_dir():
        return
    waiting, number = [folder], 0
    emptied = []
    while waiting:
        path = waiting.pop()
        with contextlib.suppress(OSError):
            path.chmod(_OWNER_ALL)
        with contextlib.suppress(OSError), os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    number += 1
                    aside = folder.with_name(f"{folder.name}.wipe{number}")
                    with contextlib.suppress(OSError):
                        Path(entry.path).chmod(_OWNER_ALL)  # moving a folder writes to it
                    Path(entry.path).rename(aside)
                    waiting.append(aside)
                else:
                    Path(entry.path).unlink(missing_ok=True)
        emptied.append(path)
    for path in emptied:
        with contextlib.suppress(OSError):
            path.rmdir()
