"""The machine's power, on folders that look like Linux's powercap: none of this was run on a meter of hardware."""

from __future__ import annotations

from pathlib import Path

import pytest

from fallow.agent.policy import Unknown
from fallow.agent.power import LONGEST_S, PowerMeter
from tests.unit.powercap_fakes import RANGE_UJ, Package

J = 1_000_000


class Bench:
    """A meter on a folder, its clock, and what graphics cards draw."""

    def __init__(self, powercap: Path) -> None:
        self.now_s = 1000.0
        self.gpus_w: float | Unknown = 0.0
        self.meter = PowerMeter(powercap, lambda: self.now_s, lambda: self.gpus_w)

    def after(self, seconds: float) -> float | Unknown:
        """Look so much later."""
        self.now_s += seconds
        return self.meter.look()

    def blind_after(self, seconds: float) -> str:
        """Look so much later, see nothing, and return why."""
        found = self.after(seconds)
        assert isinstance(found, Unknown)
        return found.unknown


def test_power_is_the_energy_between_two_looks_over_the_time(tmp_path: Path) -> None:
    first, second = (Package(tmp_path, f"intel-rapl:{n}", name=f"package-{n}", uj=n * J) for n in range(2))
    bench = Bench(tmp_path)
    first.count(60 * J)
    second.count(30 * J)
    assert bench.after(2) == 45
    assert bench.after(1) == 0
    bench.gpus_w = 120.5
    first.count(10 * J)
    assert bench.after(1) == 130.5


def test_parts_of_a_package_and_the_whole_board_are_not_counted_again(tmp_path: Path) -> None:
    zones = {"intel-rapl:0": "package-0", "intel-rapl:0:0": "core", "intel-rapl:0:1": "dram", "intel-rapl:1": "psys"}
    packages = [Package(tmp_path, folder, name=name) for folder, name in zones.items()]
    Package(tmp_path, "intel-rapl-mmio:0").count(5 * J)  # the same package, shown by another driver
    (tmp_path / "intel-rapl").mkdir()  # the control type, which has no counter
    bench = Bench(tmp_path)
    for package in packages:
        package.count(20 * J)
    assert bench.after(1) == 20


def test_a_counter_that_wraps_goes_on(tmp_path: Path) -> None:
    package = Package(tmp_path, "intel-rapl:0", uj=RANGE_UJ - 5 * J)
    bench = Bench(tmp_path)
    package.count(25 * J)
    assert package.uj == 20 * J
    assert bench.after(1) == 25


def test_looks_too_close_and_too_far_apart(tmp_path: Path) -> None:
    package = Package(tmp_path, "intel-rapl:0")
    bench = Bench(tmp_path)
    assert "long enough" in bench.blind_after(0), "one look alone is no power"
    package.count(50 * J)
    assert bench.after(1) == 50
    package.count(1)
    assert bench.after(0.01) == 50
    package.count(100 * J)
    assert "long enough" in bench.blind_after(LONGEST_S + 1), "it may have wrapped more than once"
    package.count(10 * J)
    assert bench.after(1) == 10


def test_a_machine_without_a_meter_says_so(tmp_path: Path) -> None:
    assert "no meter" in Bench(tmp_path / "none").blind_after(1)
    Package(tmp_path, "intel-rapl:0", name="psys")
    assert "no meter" in Bench(tmp_path).blind_after(1)


def test_a_meter_for_root_alone_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = Package(tmp_path, "intel-rapl:0")
    bench = Bench(tmp_path)
    read = Path.read_text

    def refused(path: Path) -> str:  # as the kernel does; tests may run as root, whom no mode of a file keeps out
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_text", refused)
        why = bench.blind_after(1)
    assert "root alone" in why
    assert str(package.energy) in why
    assert "long enough" in bench.blind_after(1), "what was counted unseen belongs to no time"


@pytest.mark.parametrize("text", ["", "many"])
def test_one_package_that_cannot_be_read_leaves_no_sum(tmp_path: Path, text: str) -> None:
    first, second = Package(tmp_path, "intel-rapl:0"), Package(tmp_path, "intel-rapl:1")
    bench = Bench(tmp_path)
    first.count(J)
    second.energy.write_text(text)
    assert "cannot be read" in bench.blind_after(1)


def test_a_package_that_comes_later_begins_anew(tmp_path: Path) -> None:
    first = Package(tmp_path, "intel-rapl:0")
    bench = Bench(tmp_path)
    second = Package(tmp_path, "intel-rapl:1", uj=900 * J)
    assert "long enough" in bench.blind_after(1)
    first.count(J)
    second.count(J)
    assert bench.after(1) == 2


def test_a_graphics_card_that_does_not_tell_leaves_no_sum(tmp_path: Path) -> None:
    Package(tmp_path, "intel-rapl:0")
    bench = Bench(tmp_path)
    bench.gpus_w = Unknown("The card says nothing.")
    assert bench.blind_after(1) == "The card says nothing."
