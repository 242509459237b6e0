"""Small things that Linux, NetworkManager and NVIDIA's driver know. Nothing here guesses."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fallow.agent.gpus import MIB, NoGpus, nvml
from fallow.agent.policy import Unknown

NMCLI_S = 5.0


def on_battery(power: Path) -> bool | Unknown:
    """Whether the machine lives on its battery: it has one, none of its mains is connected, or it is discharging.

    Batteries of mice and the like do not count. A machine without one is on mains.
    """
    try:
        supplies = list(power.iterdir())
    except OSError as error:
        return Unknown(f"{power} cannot be read: {error}.")
    batteries = [one for one in supplies if _text(one / "type") == "Battery" and _text(one / "scope") != "Device"]
    if not batteries:
        return False
    mains = [_text(one / "online") for one in supplies if _text(one / "type") in {"Mains", "USB"}]
    if "1" in mains:
        return False
    states = {_text(one / "status") for one in batteries}
    if "Discharging" in states or (mains and set(mains) == {"0"}):
        return True
    charged = states <= {"Charging", "Full", "Not charging"}
    return (
        False
        if charged
        else Unknown(f"There is a battery, but it says neither that it discharges nor that mains is there: {power}.")
    )


def temperature(hwmon: Path, thermal: Path) -> float | Unknown:
    """The hottest sensor in degrees Celsius. Sensors that say less than 0 or more than 150 are broken."""
    milli = [_number(file) for file in (*hwmon.glob("*/temp*_input"), *thermal.glob("thermal_zone*/temp"))]
    fine = [value / 1000 for value in milli if value is not None and 0 < value < 150_000]  # noqa: PLR2004 - the docstring
    return max(fine) if fine else Unknown("The machine shows no sensor for its temperature.")


def metered_by_networkmanager(run: Callable[[list[str]], str] | None = None) -> bool | Unknown:
    """Whether NetworkManager holds one of the links that lead out for metered, by its settings or by its own guess."""
    if run is None:
        if shutil.which("nmcli") is None:
            return Unknown("NetworkManager is not there, and nothing else knows.")
        run = _run
    try:
        lines = run(["nmcli", "-t", "-g", "GENERAL.TYPE,GENERAL.STATE,GENERAL.METERED", "device", "show"])
    except (OSError, subprocess.SubprocessError) as error:
        return Unknown(f"NetworkManager does not answer: {error}.")
    answers = []
    for block in lines.split("\n\n"):
        kind, state, metered = (*block.strip().splitlines(), "", "", "")[:3]
        if kind not in {"", "loopback", "bridge", "tun", "veth"} and state.startswith("100"):
            answers.append(metered.lower())
    if any(answer.startswith("yes") for answer in answers):
        return True
    if answers and all(answer.startswith("no") for answer in answers):
        return False
    return Unknown("NetworkManager does not know.")


def gpu_memory() -> Mapping[int, int] | Unknown:
    """MiB of graphics memory that each process (by pid) holds, ours included."""
    library = nvml()
    if isinstance(library, NoGpus):
        return Unknown(library.why)
    held: dict[int, int] = {}
    try:
        for process in _gpu_processes(library):
            held[process.pid] = held.get(process.pid, 0) + (process.usedGpuMemory or 0) // MIB
    except library.NVMLError as error:
        return Unknown(f"NVIDIA's driver does not answer: {error}.")
    return held


def _gpu_processes(library: Any) -> Iterator[Any]:  # noqa: ANN401 - an untyped module
    for index in range(library.nvmlDeviceGetCount()):
        handle = library.nvmlDeviceGetHandleByIndex(index)
        # A game draws and computes: it is in both lists with the same memory, so that only the first counts.
        drawing = library.nvmlDeviceGetGraphicsRunningProcesses(handle)
        drawn = {process.pid for process in drawing}
        yield from drawing
        yield from (one for one in library.nvmlDeviceGetComputeRunningProcesses(handle) if one.pid not in drawn)


def _run(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=NMCLI_S, check=True).stdout  # noqa: S603


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
