"""What this machine is and has, as far as an agent may see it."""

from __future__ import annotations

import importlib
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from fallow.domain.resources import Resources

MIB = 1 << 20
_CGROUP_CPU = Path("/sys/fs/cgroup/cpu.max")
_CGROUP_MEMORY = Path("/sys/fs/cgroup/memory.max")


class Gpu(NamedTuple):
    """One graphics processor."""

    model: str
    memory_mib: int


class Inventory(NamedTuple):
    """What there is. `missing` says what there is not, and why (name to sentence)."""

    cpu_milli: int
    memory_mib: int
    disk_mib: int
    load_milli: int
    system: str
    machine: str
    python: str
    gpus: tuple[Gpu, ...]
    missing: Mapping[str, str]

    @property
    def resources(self) -> Resources:
        """The whole machine."""
        return Resources(cpu_milli=self.cpu_milli, memory_mib=self.memory_mib, disk_mib=self.disk_mib)

    @property
    def attributes(self) -> dict[str, str]:
        """What offers say of it."""
        found = {
            "os": self.system,
            "arch": self.machine,
            "python": self.python,
            "cpu.cores": str(self.cpu_milli // 1000),
        }
        if self.gpus:
            found |= {
                "gpu.count": str(len(self.gpus)),
                "gpu.model": self.gpus[0].model[:200],
                "gpu.vram_mib": str(self.gpus[0].memory_mib),
            }
        return found


def take_inventory(folder: Path) -> Inventory:
    """Look at the machine; disk is what is free where `folder` lies. Containers' limits count as the machine's."""
    gpus, missing = _gpus()
    return Inventory(
        cpu_milli=_cpu_milli(),
        memory_mib=min(psutil.virtual_memory().total, _limit(_CGROUP_MEMORY)) // MIB,
        disk_mib=psutil.disk_usage(str(folder)).free // MIB,
        load_milli=round(psutil.getloadavg()[0] * 1000),
        system=platform.system().lower(),
        machine=platform.machine().lower(),
        python=".".join(platform.python_version_tuple()[:2]),
        gpus=gpus,
        missing=missing,
    )


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


def _gpus() -> tuple[tuple[Gpu, ...], dict[str, str]]:
    try:
        nvml: Any = importlib.import_module("pynvml")
    except ImportError:
        return (), {"gpu": "The package nvidia-ml-py is not installed, so that GPUs cannot be seen."}
    try:
        nvml.nvmlInit()
        try:
            handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
            found = tuple(
                Gpu(str(nvml.nvmlDeviceGetName(handle)), int(nvml.nvmlDeviceGetMemoryInfo(handle).total) // MIB)
                for handle in handles
            )
        finally:
            nvml.nvmlShutdown()
    except nvml.NVMLError as error:
        return (), {"gpu": f"NVIDIA's driver does not answer: {error}."}
    return found, {} if found else {"gpu": "NVIDIA's driver finds no GPU."}
