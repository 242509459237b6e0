"""What an agent sees of its machine and of its owner's doings: the port, and its Linux implementation."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from fallow.agent.attention import Attention
from fallow.agent.policy import Reading, Unknown
from fallow.agent.power import PowerMeter, gpu_power
from fallow.agent.processes import OthersLoad, running
from fallow.agent.sensors import gpu_memory, metered_by_networkmanager, on_battery, temperature


class Probes(Protocol):
    """The machine, as the policy sees it. Each part says Unknown, with the reason, rather than guess."""

    sources: Mapping[str, str]
    """For people: where each reading comes from."""

    def read(self, programs: Collection[str]) -> Reading:
        """Look, within milliseconds; `programs` are the names to look for. Called once a second, from any thread."""
        ...

    def refresh(self) -> None:
        """Ask what takes longer than that; `read` answers with it from then on. Called now and then, in a thread."""
        ...

    def close(self) -> None:
        """Let go of what is open."""
        ...


class Paths(NamedTuple):
    """Where Linux shows things; tests bring trees of their own."""

    proc: Path = Path("/proc")
    power: Path = Path("/sys/class/power_supply")
    hwmon: Path = Path("/sys/class/hwmon")
    thermal: Path = Path("/sys/class/thermal")
    dev: Path = Path("/dev")
    powercap: Path = Path("/sys/class/powercap")


class LinuxProbes:
    """`seconds` is a wall clock in seconds (that of file times), `steady_s` one that never goes back.

    `pid` is the process whose tree is our own work. `metered` asks, slowly, whether the link is metered; `gpu` what
    each process (pid, name) holds of graphics memory, and `gpu_watts` what the cards draw.
    """

    def __init__(
        self,
        seconds: Callable[[], float],
        steady_s: Callable[[], float],
        *,
        paths: Paths | None = None,
        pid: int | None = None,
        metered: Callable[[], bool | Unknown] = metered_by_networkmanager,
        gpu: Callable[[], Mapping[int, int] | Unknown] = gpu_memory,
        gpu_watts: Callable[[], float | Unknown] = gpu_power,
    ) -> None:
        self._paths = paths = paths or Paths()
        self._load = OthersLoad(paths.proc, os.getpid() if pid is None else pid)
        self._attention = Attention(paths.dev, seconds)
        self._power = PowerMeter(paths.powercap, steady_s, gpu_watts)
        self._ask_metered = metered
        self._gpu = gpu
        self._metered: bool | Unknown = Unknown("It has not been asked for yet.")
        self.sources: Mapping[str, str] = {
            "others_cpu_percent": f"{paths.proc}/stat, less the processes that this agent has started",
            "idle_s": self._attention.source,
            "on_battery": str(paths.power),
            "metered": "NetworkManager (nmcli)",
            "temperature_c": f"{paths.hwmon}, {paths.thermal}",
            "power_w": f"{paths.powercap} (RAPL), and NVIDIA's driver (NVML)",
            "programs": f"{paths.proc}/*/comm",
            "gpu_mib": "NVIDIA's driver (NVML)",
            "data_bytes": "counted by the agent itself",
        }

    def read(self, programs: Collection[str]) -> Reading:
        """See the port."""
        ours = self._load.look()
        return Reading(
            others_cpu_percent=self._load.percent,
            idle_s=self._attention.idle_s(),
            on_battery=on_battery(self._paths.power),
            metered=self._metered,
            temperature_c=temperature(self._paths.hwmon, self._paths.thermal),
            power_w=self._power.look(),
            programs=running(self._paths.proc, programs, ours) if programs else (),
            gpu_mib=self._others_gpu(ours),
        )

    def refresh(self) -> None:
        """See the port."""
        self._metered = self._ask_metered()
        self._attention.refresh()

    def close(self) -> None:
        """See the port."""
        self._attention.close()

    def _others_gpu(self, ours: Collection[int]) -> dict[str, int] | Unknown:
        used = self._gpu()
        if isinstance(used, Unknown):
            return used
        found: dict[str, int] = {}
        for pid, mib in used.items():
            if pid not in ours:
                name = _name(self._paths.proc, pid)
                found[name] = found.get(name, 0) + mib
        return found


def _name(proc: Path, pid: int) -> str:
    try:
        return (proc / str(pid) / "comm").read_text().strip()
    except OSError:
        return f"process {pid}"
