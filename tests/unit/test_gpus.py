"""What the agent makes of NVIDIA's library; the library is a fake: none of this was run on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fallow.agent import inventory, power, sensors
from fallow.agent.enrol import Wishes, settings_from
from fallow.agent.gpus import Gpu, NoGpus, alike, read_gpus
from fallow.agent.inventory import take_inventory
from fallow.agent.policy import Unknown

GIB = 1 << 30
MIB = 1 << 20
RTX = ("NVIDIA GeForce RTX 4090", 24)
T4 = ("Tesla T4", 15)


class NVMLError(Exception):
    """As pynvml's."""


class FakeNvml:
    """pynvml's functions over a list of (model, GiB); `error` breaks the driver."""

    NVMLError = NVMLError

    def __init__(self, *gpus: tuple[str, int]) -> None:
        self.gpus = gpus
        self.error = ""
        self.milliwatts: Mapping[int, int] = {}
        self.drawing: Mapping[int, Sequence[tuple[int, int | None]]] = {}
        self.computing: Mapping[int, Sequence[tuple[int, int | None]]] = {}

    def _milliwatts(self, index: int) -> int:
        if index not in self.milliwatts:
            raise NVMLError("Not Supported")
        return self.milliwatts[index]

    def _count(self) -> int:
        if self.error:
            raise NVMLError(self.error)
        return len(self.gpus)

    def __getattr__(self, name: str) -> Any:
        answers: dict[str, Callable[..., Any]] = {
            "nvmlDeviceGetCount": self._count,
            "nvmlDeviceGetHandleByIndex": lambda index: index,
            "nvmlDeviceGetName": lambda index: self.gpus[index][0],
            "nvmlDeviceGetMemoryInfo": lambda index: SimpleNamespace(total=self.gpus[index][1] * GIB),
            "nvmlDeviceGetPowerUsage": self._milliwatts,
            "nvmlDeviceGetUUID": lambda index: f"GPU-{index}",
            "nvmlDeviceGetGraphicsRunningProcesses": lambda index: _processes(self.drawing.get(index, ())),
            "nvmlDeviceGetComputeRunningProcesses": lambda index: _processes(self.computing.get(index, ())),
        }
        return answers[name]


def _processes(found: Sequence[tuple[int, int | None]]) -> list[SimpleNamespace]:
    return [SimpleNamespace(pid=pid, usedGpuMemory=None if mib is None else mib * MIB) for pid, mib in found]


def test_all_gpus_are_seen_with_model_memory_and_name() -> None:
    assert read_gpus(FakeNvml(RTX, T4)) == (Gpu(RTX[0], 24 * 1024, "GPU-0"), Gpu(T4[0], 15 * 1024, "GPU-1"))


def test_where_none_can_be_seen_it_is_said_why() -> None:
    broken = FakeNvml(RTX)
    broken.error = "Driver/library version mismatch"
    for library, why in ((FakeNvml(), "finds no GPU"), (broken, "version mismatch"), (NoGpus("not here"), "not here")):
        found = read_gpus(library)
        assert isinstance(found, NoGpus)
        assert why in found.why


@pytest.mark.parametrize(
    ("there", "offered"), [([], []), ([RTX], [0]), ([T4, RTX], [1]), ([T4, RTX, T4], [0, 2]), ([RTX, RTX], [0, 1])]
)
def test_what_is_offered_is_all_alike(there: list[tuple[str, int]], offered: list[int]) -> None:
    gpus = [Gpu(model, gib * 1024, f"GPU-{index}") for index, (model, gib) in enumerate(there)]
    assert [gpu.uuid for gpu in alike(gpus)] == [f"GPU-{index}" for index in offered]


def test_the_inventory_counts_them_and_names_the_rest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(inventory, "nvml", lambda: FakeNvml(RTX, T4, RTX))
    machine = take_inventory(tmp_path)
    assert machine.resources.gpus == 2
    assert machine.attributes["gpu.model"] == RTX[0]
    assert machine.attributes["gpu.vram_mib"] == str(24 * 1024)
    assert T4[0] in machine.missing["gpu.others"]
    settings = settings_from(Wishes(gpus=1, price_usd_per_gpu_hour=0.4), machine)
    assert (settings.total.gpus, settings.terms.price_microusd_per_gpu_hour) == (1, 400_000)
    assert settings_from(Wishes(), machine).total.gpus == 2


def test_a_machine_without_any_offers_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(inventory, "nvml", lambda: NoGpus("The package nvidia-ml-py is not installed."))
    machine = take_inventory(tmp_path)
    assert machine.resources.gpus == 0
    assert "not installed" in machine.missing["gpu"]
    settings = settings_from(Wishes(), machine)
    assert (settings.total.gpus, settings.terms.price_microusd_per_gpu_hour) == (0, 0)


def test_who_holds_graphics_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    library = FakeNvml(RTX, RTX)
    # A game is in both lists of a card with the same memory; a driver may not know how much.
    library.drawing = {0: [(7, 4096), (8, None)]}
    library.computing = {0: [(7, 4096), (9, 100)], 1: [(9, 50)]}
    monkeypatch.setattr(sensors, "nvml", lambda: library)
    assert sensors.gpu_memory() == {7: 4096, 8: 0, 9: 150}
    library.error = "gone"
    found = sensors.gpu_memory()
    assert isinstance(found, Unknown)
    assert "gone" in found.unknown


def test_what_they_draw_is_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    library = FakeNvml(RTX, T4)
    library.milliwatts = {0: 301_500, 1: 40_000}
    monkeypatch.setattr(power, "nvml", lambda: library)
    assert power.gpu_power() == 341.5
    library.milliwatts = {0: 301_500}
    found = power.gpu_power()
    assert isinstance(found, Unknown), "one card that does not tell is no zero"
    assert "Not Supported" in found.unknown


def test_a_card_that_cannot_be_asked_is_not_held_for_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(power, "nvml", lambda: NoGpus("The package nvidia-ml-py is not installed."))
    assert power.gpu_power(tmp_path) == 0
    (tmp_path / "driver/nvidia/gpus/0000:01:00.0").mkdir(parents=True)
    found = power.gpu_power(tmp_path)
    assert isinstance(found, Unknown)
    assert "not installed" in found.unknown
