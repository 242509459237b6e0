"""What this machine is and has, as far as an agent may see it."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from fallow.agent.gpus import Gpu, NoGpus, alike, nvml, read_gpus
from fallow.domain.matching import GPU_MODEL, GPU_VRAM_MIB
from fallow.domain.resources import Resources

MIB = 1 << 20
_CGROUP_CPU = Path("/sys/fs/cgroup/cpu.max")
_CGROUP_MEMORY = Path("/sys/fs/cgroup/memory.max")
_CPU_INFO = Path("/proc/cpuinfo")
_MODEL = re.compile(r"^(?:model name|Model|Hardware)\s*:\s*(\S.*)$", re.MULTILINE)
_NAME_MAX = 80


class Inventory(NamedTuple):
    """What there is. `gpus` are alike; `missing` says what there is not, and why (name to sentence)."""

    cpu_milli: int
    memory_mib: int
    disk_mib: int
    load_milli: int
    system: str
    machine: str
    python: str
    gpus: tuple[Gpu, ...]
    missing: Mapping[str, str]
    cpu_model: str = ""

    @property
    def resources(self) -> Resources:
        """The whole machine."""
        return Resources(
            cpu_milli=self.cpu_milli, memory_mib=self.memory_mib, disk_mib=self.disk_mib, gpus=len(self.gpus)
        )

    @property
    def attributes(self) -> dict[str, str]:
        """What offers say of it."""
        found = {
            "os": self.system,
            "arch": self.machine,
            "python": self.python,
            "cpu.cores": str(self.cpu_milli // 1000),
        }
        if self.cpu_model:
            found["cpu.model"] = self.cpu_model
        if self.gpus:
            found |= {GPU_MODEL: self.gpus[0].model, GPU_VRAM_MIB: str(self.gpus[0].memory_mib)}
        return found


def take_inventory(folder: Path) -> Inventory:
    """Look at the machine; disk is what is free where `folder` lies. Containers' limits count as the machine's.

    Of graphics processors of several kinds those of one kind are taken; the others are named in `missing`.
    """
    seen = read_gpus(nvml())
    gpus = () if isinstance(seen, NoGpus) else alike(seen)
    missing = {"gpu": seen.why} if isinstance(seen, NoGpus) else _left_out(seen, gpus)
    return Inventory(
        cpu_milli=_cpu_milli(),
        memory_mib=min(psutil.virtual_memory().total, _limit(_CGROUP_MEMORY)) // MIB,
        disk_mib=psutil.disk_usage(str(folder)).free // MIB,
        load_milli=round(psutil.getloadavg()[0] * 1000),
        system=platform.system().lower(),
        machine=platform.machine().lower(),
        python=".".join(platform.python_version_tuple()[:2]),
        cpu_model=_cpu_model(),
        gpus=gpus,
        missing=missing,
    )


def _cpu_model() -> str:
    """What the processor calls itself; "" where it does not say. Work gives the same bytes on the same one, if any."""
    try:
        found = _MODEL.search(_CPU_INFO.read_text("utf-8", "replace"))
    except OSError:
        return ""
    plain = "".join(sign for sign in found[1] if sign.isprintable()) if found is not None else ""
    return " ".join(plain.split())[:_NAME_MAX]


def _cpu_milli() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else psutil.cpu_count() or 1
    try:
        quota, period = _CGROUP_CPU.read_text().split()
        return min(cores * 1000, int(quota) * 1000 // int(period))
    except (OSError, ValueError):  # no cgroup v2, or "max"
        return cores * 1000


def _limit(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 1 << 62


def _left_out(seen: Sequence[Gpu], taken: Sequence[Gpu]) -> dict[str, str]:
    others = sorted({gpu.model for gpu in seen if gpu not in taken})
    return {"gpu.others": f"Not offered, since it is of another kind: {', '.join(others)}."} if others else {}
