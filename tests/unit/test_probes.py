"""The probes, on trees of files that look like Linux's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fallow.agent.attention import Attention
from fallow.agent.policy import Unknown
from fallow.agent.probes import LinuxProbes, Paths
from fallow.agent.processes import OthersLoad, running
from fallow.agent.sensors import metered_by_networkmanager, on_battery, temperature
from tests.unit.powercap_fakes import Package


class Proc:
    """A /proc. Times are in ticks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.machine(0, 0)

    def machine(self, busy: int, idle: int) -> None:
        """What all cores did."""
        (self.folder / "stat").write_text(f"cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\ncpu0 0 0 0 0\n")

    def process(
        self, pid: int, *, ticks: int = 0, waited: int = 0, children: tuple[int, ...] = (), comm: str = "x"
    ) -> None:
        """A process: its own times, those of children that it has waited for, and those that live."""
        folder = self.folder / str(pid)
        (folder / "task" / str(pid)).mkdir(parents=True, exist_ok=True)
        fields = ["S", *["0"] * 10, str(ticks), "0", str(waited), "0", *["0"] * 20]
        (folder / "stat").write_text(f"{pid} (a) b) {' '.join(fields)}\n")
        (folder / "comm").write_text(comm + "\n")
        (folder / "task" / str(pid) / "children").write_text("".join(f"{child} " for child in children))

    def end(self, pid: int) -> None:
        """The process is gone."""
        for path in sorted((self.folder / str(pid)).rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        (self.folder / str(pid)).rmdir()


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path / "proc")


def test_our_own_work_is_not_the_load_of_others(proc: Proc) -> None:
    proc.process(10, children=(11,))
    proc.process(11, children=(12,))
    proc.process(12)
    load = OthersLoad(proc.folder, 10)
    assert isinstance(load.percent, Unknown)
    proc.machine(busy=300, idle=100)
    proc.process(12, ticks=180)
    proc.process(11, ticks=20, children=(12,))
    assert load.look() == {10, 11, 12}
    assert load.percent == 25.0
    # The sandbox ends: its times go to those that waited for it, and nothing jumps.
    proc.end(12)
    proc.process(11, ticks=20, waited=180)
    proc.machine(busy=320, idle=180)
    load.look()
    assert load.percent == 20.0


def test_too_short_a_time_says_nothing_new(proc: Proc) -> None:
    proc.process(10)
    load = OthersLoad(proc.folder, 10)
    proc.machine(busy=50, idle=50)
    load.look()
    proc.machine(busy=60, idle=50)
    load.look()
    assert load.percent == 50.0


def test_a_kernel_that_does_not_tell_is_unknown(proc: Proc) -> None:
    load = OthersLoad(proc.folder, 99)
    proc.machine(busy=50, idle=50)
    load.look()
    assert isinstance(load.percent, Unknown)
    (proc.folder / "stat").unlink()
    load.look()
    assert isinstance(load.percent, Unknown)
    assert "cannot be read" in load.percent.unknown


def test_listed_programs_are_found_but_not_in_our_own_work(proc: Proc) -> None:
    proc.process(20, comm="Game")
    proc.process(21, comm="a-very-long-nam")
    proc.process(22, comm="render")
    names = ("game", "a-very-long-name-of-a-program", "render", "absent")
    assert running(proc.folder, names, ours={22}) == ("a-very-long-name-of-a-program", "game")
    assert isinstance(running(proc.folder / "none", names, ours=()), Unknown)


def supply(folder: Path, name: str, **files: str) -> None:
    (folder / name).mkdir(parents=True)
    for file, text in files.items():
        (folder / name / file).write_text(text + "\n")


@pytest.mark.parametrize(
    ("supplies", "battery"),
    [
        ({}, False),
        ({"AC": {"type": "Mains", "online": "1"}, "BAT0": {"type": "Battery", "status": "Discharging"}}, False),
        ({"AC": {"type": "Mains", "online": "0"}, "BAT0": {"type": "Battery", "status": "Unknown"}}, True),
        ({"BAT0": {"type": "Battery", "status": "Discharging"}}, True),
        ({"BAT0": {"type": "Battery", "status": "Full"}}, False),
        ({"mouse": {"type": "Battery", "status": "Discharging", "scope": "Device"}}, False),
    ],
)
def test_battery(tmp_path: Path, supplies: dict[str, dict[str, str]], battery: bool) -> None:
    tmp_path.joinpath("power").mkdir()
    for name, files in supplies.items():
        supply(tmp_path / "power", name, **files)
    assert on_battery(tmp_path / "power") is battery


def test_a_battery_that_says_nothing_is_unknown(tmp_path: Path) -> None:
    supply(tmp_path, "BAT0", type="Battery", status="Unknown")
    assert isinstance(on_battery(tmp_path), Unknown)
    assert isinstance(on_battery(tmp_path / "none"), Unknown)


def test_the_hottest_sensor_counts(tmp_path: Path) -> None:
    supply(tmp_path / "hwmon", "hwmon0", temp1_input="41000", temp2_input="-128000", temp3_input="broken")
    supply(tmp_path / "thermal", "thermal_zone0", temp="65500")
    assert temperature(tmp_path / "hwmon", tmp_path / "thermal") == 65.5
    assert isinstance(temperature(tmp_path / "none", tmp_path / "none"), Unknown)


@pytest.mark.parametrize(
    ("answer", "metered"),
    [
        ("wifi\n100 (connected)\nyes (guessed)\n\nloopback\n100 (connected)\nunknown\n", True),
        ("ethernet\n100 (connected)\nno (guessed)\n\nwifi\n30 (disconnected)\nyes\n", False),
        ("bridge\n100 (connected)\nyes\n", None),
        ("ethernet\n100 (connected)\nunknown\n", None),
        ("", None),
    ],
)
def test_metered(answer: str, metered: bool | None) -> None:
    found = metered_by_networkmanager(lambda _: answer)
    assert (None if isinstance(found, Unknown) else found) is metered


def test_metered_without_an_answer() -> None:
    def broken(_: list[str]) -> str:
        raise OSError("no such bus")

    found = metered_by_networkmanager(broken)
    assert isinstance(found, Unknown)
    assert "no such bus" in found.unknown


class Seat:
    """A /dev and a clock. Time before the watch began counts as use."""

    def __init__(self, folder: Path) -> None:
        self.dev = folder
        self.now = 1_000_000.0
        (folder / "input").mkdir(parents=True)
        (folder / "pts").mkdir()

    def terminal(self, name: str, used: float) -> None:
        """A terminal that was last typed into then."""
        (self.dev / name).write_text("")
        os.utime(self.dev / name, (used, used))


def test_terminals_tell_when_they_were_typed_into(tmp_path: Path) -> None:
    seat = Seat(tmp_path / "dev")
    seat.terminal("pts/0", seat.now - 500)
    attention = Attention(seat.dev, lambda: seat.now)
    seat.now += 100
    assert attention.idle_s() == 100
    seat.terminal("pts/1", seat.now - 7)
    assert attention.idle_s() == 7
    seat.terminal("pts/2", seat.now + 1000)  # of a clock that was set back
    assert attention.idle_s() == 7
    (seat.dev / "pts/1").unlink()
    seat.now += 3
    assert attention.idle_s() == 10
    seat.terminal("tty1", seat.now)
    attention.refresh()
    assert attention.idle_s() == 0
    attention.close()


def test_an_event_of_a_key_or_a_mouse_is_use(tmp_path: Path) -> None:
    seat = Seat(tmp_path / "dev")
    device = seat.dev / "input" / "event3"
    device.write_text("a key")
    attention = Attention(seat.dev, lambda: seat.now)
    assert "1 of 1 input devices" in attention.source
    seat.now += 60
    assert attention.idle_s() == 60
    device.read_text()  # as the desktop does when there is an event
    assert attention.idle_s() == 0
    seat.now += 5
    assert attention.idle_s() == 5
    attention.close()


def test_devices_that_may_not_be_watched_are_unknown(tmp_path: Path) -> None:
    seat = Seat(tmp_path / "dev")
    (seat.dev / "input" / "event0").symlink_to("gone")  # root may watch whatever there is
    attention = Attention(seat.dev, lambda: seat.now)
    seat.now += 60
    idle = attention.idle_s()
    assert isinstance(idle, Unknown)
    assert "group input" in idle.unknown
    (seat.dev / "input" / "event0").unlink()
    attention.refresh()
    assert attention.idle_s() == 60
    attention.close()


def test_all_together(tmp_path: Path, proc: Proc) -> None:
    proc.process(10, children=(11,))
    proc.process(11, comm="game")
    proc.process(30, comm="game")
    seat = Seat(tmp_path / "dev")
    paths = Paths(proc.folder, tmp_path, tmp_path / "hwmon", tmp_path / "thermal", seat.dev, tmp_path / "powercap")
    package = Package(tmp_path / "powercap", "intel-rapl:0")
    probes = LinuxProbes(
        lambda: seat.now,
        lambda: seat.now,
        paths=paths,
        pid=10,
        metered=lambda: True,
        gpu=lambda: {11: 500, 30: 700, 31: 9},
        gpu_watts=lambda: 70.0,
    )
    package.count(900_000_000)
    seat.now += 30
    assert isinstance(probes.read(()).metered, Unknown)
    probes.refresh()
    found = probes.read(("game",))
    assert found.power_w == 900 / 30 + 70
    assert (found.metered, found.on_battery, found.idle_s) == (True, False, 30.0)
    assert found.programs == ("game",)
    assert found.gpu_mib == {"game": 700, "process 31": 9}
    assert isinstance(found.temperature_c, Unknown)
    assert set(probes.sources) == set(found.__struct_fields__)
    probes.close()
