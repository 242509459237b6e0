"""Keeps a WebAssembly sandbox to what its lease paid for: the kernel bounds its processor time and memory.

The engine's own limits come first and are the same on every machine. These hold where they fail, and they are what
keeps a lease of half a core to half a core. Where no control group can be made, the child's own limits
(`wasm_child.limit`) and its place behind everybody else (nice, idle class of the disk) are all there is.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import psutil

from fallow.domain.resources import Resources
from fallow.verticals.compute.worker.cgroups import Group, open_group, sweep

OVERHEAD_BYTES: Final = 512 << 20
"""On top of the lease's memory: the interpreter, the engine, and its compiler at work on a large program."""

PROCESSES_MAX: Final = 64
"""Threads count, too."""

_HOW: Final = "They need root, or a service with a delegated group; see: fallow agent service"
_PREFIX: Final = "fallow-"
"""As all groups of this package begin."""

_numbers = itertools.count()
_log = logging.getLogger(__name__)


class Enforcement(NamedTuple):
    """What bounds sandboxes here: `cgroup2`, `cgroup1` or `rlimits`; for the last, why nothing better does."""

    kind: str
    why: str


def enforcement() -> Enforcement:
    """Find out by trying, after removing what agents that were killed have left."""
    sweep(_PREFIX)
    group = _open(Resources(cpu_milli=1000, memory_mib=64))
    if group is None:
        return Enforcement("rlimits", f"No control groups for memory and processes can be made here. {_HOW}.")
    try:
        return Enforcement(f"cgroup{group.version}", "")
    finally:
        group.close()


@asynccontextmanager
async def confined(resources: Resources) -> AsyncIterator[Callable[[int], None]]:
    """Make room for one sandbox; what it gives puts the sandbox's first process there, by its pid."""
    group = await asyncio.to_thread(_open, resources)
    try:
        yield lambda pid: _put(group, pid)
    finally:
        if group is not None:
            await asyncio.to_thread(group.close)


def _open(resources: Resources) -> Group | None:
    return open_group(
        f"{_PREFIX}{os.getpid()}-wasm{next(_numbers)}",
        memory_bytes=(resources.memory_mib << 20) + OVERHEAD_BYTES,
        processes=PROCESSES_MAX,
        cpu_milli=resources.cpu_milli,
    )


def _put(group: Group | None, pid: int) -> None:
    """Bound a process. One that is gone already needs no bounds."""
    try:
        if group is not None:
            group.add(pid)
        if hasattr(psutil, "IOPRIO_CLASS_IDLE"):
            psutil.Process(pid).ionice(psutil.IOPRIO_CLASS_IDLE)
    except (OSError, psutil.Error) as error:
        _log.warning("a sandbox could not be bounded: %s", error)
