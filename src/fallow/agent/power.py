"""The power that the machine draws, in watts: Linux's meter of its processors, and what NVIDIA's driver tells."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from fallow.agent.gpus import NoGpus, nvml
from fallow.agent.policy import Unknown

SHORTEST_S = 0.1
"""A shorter time between two looks says too little: the meter moves about once a millisecond, in steps."""

LONGEST_S = 60.0
"""After so long a meter of the smallest range (65 kJ) may have wrapped twice, at 1 kW and more: it begins anew."""

_SOON = Unknown("It has not been measured for long enough yet.")


class PowerMeter:
    """Each `look` tells the processors' mean power since the last one, and the graphics cards' of now.

    The processors' is what the kernel's powercap counts of their packages (RAPL, in microjoules); the parts that it
    counts within a package are in it already. Disks, screens and what the power supply loses are in none of it.
    A counter that was set back, as sleep may do, looks as if it had wrapped: one look that is far too high, never one
    that is too low. `steady_s` is a clock in seconds that never goes back; `gpus` tells the cards' watts.
    """

    def __init__(self, powercap: Path, steady_s: Callable[[], float], gpus: Callable[[], float | Unknown]) -> None:
        self._powercap = powercap
        self._steady_s = steady_s
        self._gpus = gpus
        self._last: tuple[float, Mapping[str, _Counter]] | None = None
        self._packages_w: float | Unknown = _SOON
        self._lock = threading.Lock()
        self.look()

    def look(self) -> float | Unknown:
        """Measure. A part that cannot be seen makes all of it Unknown: a sum without it would be a guess."""
        with self._lock:
            self._measure()
            packages_w = self._packages_w
        if isinstance(packages_w, Unknown):
            return packages_w
        gpus_w = self._gpus()
        return gpus_w if isinstance(gpus_w, Unknown) else packages_w + gpus_w

    def _measure(self) -> None:
        counters, now_s = _counters(self._powercap), self._steady_s()
        if isinstance(counters, Unknown):
            self._last, self._packages_w = None, counters
            return
        then_s, before = self._last or (now_s, {})
        passed_s = now_s - then_s
        comparable = before.keys() == counters.keys() and passed_s <= LONGEST_S
        if comparable and passed_s < SHORTEST_S:
            return
        self._last = (now_s, counters)
        moved_uj = sum(counters[name].since(before[name]) for name in counters) if comparable else 0
        self._packages_w = moved_uj / 1_000_000 / passed_s if comparable else _SOON


class _Counter(NamedTuple):
    """Microjoules used so far, and the number at which it begins at 0 again."""

    uj: int
    range_uj: int

    def since(self, before: _Counter) -> int:
        """Microjoules used between two looks."""
        return self.uj - before.uj + (self.range_uj if self.uj < before.uj else 0)


def gpu_power(proc: Path = Path("/proc")) -> float | Unknown:
    """Watts that NVIDIA's graphics cards draw now; 0 where there is no such card. Other makers' are not seen."""
    library = nvml()
    if isinstance(library, NoGpus):
        # The kernel's driver lists its cards here, whether or not they can be asked.
        there = any((proc / "driver/nvidia/gpus").glob("*"))
        return Unknown(f"There is a graphics card whose power is not told: {library.why}") if there else 0.0
    try:
        handles = [library.nvmlDeviceGetHandleByIndex(index) for index in range(library.nvmlDeviceGetCount())]
        return float(sum(library.nvmlDeviceGetPowerUsage(handle) for handle in handles) / 1000)
    except library.NVMLError as error:
        return Unknown(f"NVIDIA's driver does not tell the power of a graphics card: {error}.")


def _counters(powercap: Path) -> dict[str, _Counter] | Unknown:
    """The counters of all packages, by the names of their folders.

    https://docs.kernel.org/power/powercap/powercap.html: folders `intel-rapl:N`, on AMD's processors too, of which
    `psys` is the whole board, packages included, and `intel-rapl:N:M` are the parts of a package.
    """
    found = {}
    try:
        for zone in sorted(powercap.glob("intel-rapl:*")):
            if (zone / "name").read_text().startswith("package"):
                found[zone.name] = _Counter(
                    int((zone / "energy_uj").read_text()), int((zone / "max_energy_range_uj").read_text())
                )
    except PermissionError as error:
        why = f"Linux shows it to root alone, and this agent may not read {error.filename}."
        return Unknown(f"{why} Run the agent as root, or take the limit away: fallow agent policy set power_w=")
    except (OSError, ValueError) as error:
        return Unknown(f"The meter of the processors cannot be read: {error}.")
    return found or Unknown(f"The machine shows no meter of its processors' power ({powercap}/intel-rapl:*).")
