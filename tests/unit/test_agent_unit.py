"""The agent's systemd unit, and the commands that write it and the policy."""

from __future__ import annotations

import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fallow.agent import unit as agent_unit
from fallow.agent.home import Home
from fallow.agent.policy_file import load_policy
from fallow.agent.unit import NAME, Unit, unit_text
from fallow.cli import agent_service
from fallow.cli.main import run
from tests.unit.agent_fakes import World


def parsed(text: str) -> ConfigParser:
    """A unit as systemd reads it, as far as each name stands once in its section."""
    parser = ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    return parser


def unit(**changes: Any) -> Unit:
    """A system service for this Python."""
    return Unit(command=[sys.executable, "-V"], home=Path("/var/lib/fallow agent"), user="daemon")._replace(**changes)


def test_a_system_service_is_kept_running_and_kept_small() -> None:
    service = parsed(unit_text(unit(memory_mib=1024, groups=("input",))))["Service"]
    assert (service["Restart"], service["KillSignal"], service["User"]) == ("always", "SIGTERM", "daemon")
    assert (service["Nice"], service["MemoryHigh"], service["SupplementaryGroups"]) == ("10", "1280M", "input")
    assert set(service["Delegate"].split()) == {"cpu", "memory", "pids"}
    assert service["NoNewPrivileges"] == "yes"
    assert service["ReadWritePaths"] == '"/var/lib/fallow agent"'


def test_a_system_service_can_write_to_what_its_owner_lends_wherever_that_is() -> None:
    service = parsed(unit_text(unit()))["Service"]
    assert service["ProtectSystem"] == "full", "with strict, /srv is read-only: no disk can be lent"


def test_roots_containers_have_a_place_outside_of_any_home() -> None:
    assert parsed(unit_text(unit(user="root")))["Service"]["StateDirectory"] == "fallow"
    assert "StateDirectory" not in parsed(unit_text(unit()))["Service"]


def test_a_users_own_service_asks_for_nothing_that_it_cannot_have() -> None:
    text = unit_text(unit(user="", groups=("input",)))
    assert not {"User", "SupplementaryGroups", "ProtectSystem", "MemoryHigh"} & set(parsed(text)["Service"])
    assert parsed(text)["Install"]["WantedBy"] == "default.target"


def test_a_bubblewrap_with_a_setuid_bit_needs_its_privileges() -> None:
    assert "NoNewPrivileges" not in parsed(unit_text(unit(setuid_bwrap=True)))["Service"]


def test_odd_names_are_quoted() -> None:
    command = ["/opt/a b/fallow", "--home", '/x%y$z"']
    assert parsed(unit_text(unit(command=command)))["Service"]["ExecStart"] == (
        '"/opt/a b/fallow" "--home" "/x%%y$$z\\""'
    )


@pytest.mark.parametrize("user", ["daemon", ""])
def test_systemd_finds_nothing_wrong_with_it(tmp_path: Path, user: str) -> None:
    text = unit_text(unit(user=user, home=tmp_path, memory_mib=64))
    (tmp_path / NAME).write_text(text)
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        assert parsed(text).sections() == ["Unit", "Service", "Install"]
        return
    verified = subprocess.run(
        [analyze, "verify", "--man=no", tmp_path / NAME], capture_output=True, text=True, timeout=60, check=False
    )
    # Other units of the machine may have faults of their own.
    about_ours = [line for line in verified.stderr.splitlines() if NAME in line]
    assert (verified.returncode, about_ours) == (0, [])


def test_the_command_prints_it_or_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(agent_unit, "SYSTEM_FOLDER", tmp_path / "system")
    monkeypatch.setattr(agent_service, "USER_FOLDER", tmp_path / "user")
    home = str(tmp_path / "home")
    assert run(["agent", "service", "--print", "--home", home]) == 0
    printed = capsys.readouterr().out
    assert f'"--home" "{home}"' in printed
    assert not (tmp_path / "user").exists()
    assert run(["agent", "service", "--home", home]) == 0
    assert (tmp_path / "user" / NAME).read_text() == printed
    assert "systemctl --user" in capsys.readouterr().out
    assert run(["agent", "service", "--system", "--home", home]) == 0
    assert "User=" in (tmp_path / "system" / NAME).read_text()


def test_what_a_system_service_does_not_see_is_not_lent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has a /tmp of its own, which is empty at each start: pieces would be gone."""
    monkeypatch.setattr(agent_unit, "SYSTEM_FOLDER", tmp_path / "system")
    monkeypatch.setattr(agent_unit, "HIDDEN", (tmp_path / "tmp",))
    monkeypatch.setattr(agent_service, "USER_FOLDER", tmp_path / "user")
    monkeypatch.setattr(agent_service, "_setuid_bwrap", lambda: False)
    (tmp_path / "link").symlink_to(tmp_path / "tmp")
    World(tmp_path)
    at_home = ["--home", str(tmp_path / "home")]
    hidden, seen = f"storage={tmp_path / 'link' / 'lent'}:64MiB", f"storage={tmp_path / 'lent'}:64MiB"
    (tmp_path / "tmp").mkdir()
    assert run(["agent", "lend", hidden, "--yes", *at_home]) == 0, "nothing hides it yet"
    assert run(["agent", "service", *at_home]) == 0, "nor does a user's own service"
    assert run(["agent", "service", "--system", *at_home]) == 2
    assert f"is below {tmp_path / 'tmp'}, of which the agent's system service has its own" in capsys.readouterr().err
    assert not (tmp_path / "system").exists()
    assert run(["agent", "lend", seen, "--yes", *at_home]) == 0
    assert run(["agent", "service", "--system", *at_home]) == 0
    assert run(["agent", "lend", hidden, "--yes", *at_home]) == 2
    assert "empty at each start" in capsys.readouterr().err
    assert Home(tmp_path / "home").state().settings.lends == {"storage": seen.removeprefix("storage=")}


def test_the_policy_is_set_shown_and_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at_home = ["--home", str(tmp_path / "home")]
    assert run(["agent", "policy", "set", "away_minutes=10", "hours=sat 00:00-24:00; sun 00:00-24:00", *at_home]) == 0
    assert "Only after 10 minutes" in capsys.readouterr().out
    assert load_policy(tmp_path / "home").hours == ("sat 00:00-24:00", "sun 00:00-24:00")
    assert run(["agent", "policy", *at_home]) == 0
    assert "away_minutes = 10" in capsys.readouterr().out
    assert run(["agent", "policy", "show", "--json", *at_home]) == 0
    assert msgspec.json.decode(capsys.readouterr().out)["away_minutes"] == 10
    assert run(["agent", "policy", "explain", *at_home]) == 0
    assert "Never on battery." in capsys.readouterr().out


def test_a_wrong_setting_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at_home = ["--home", str(tmp_path / "home")]
    assert run(["agent", "policy", "set", "cpu_percent=50", *at_home]) == 0
    assert run(["agent", "policy", "set", "cpu_percent=70", "battery=no", *at_home]) == 2
    assert "no setting 'battery'" in capsys.readouterr().err
    assert load_policy(tmp_path / "home").cpu_percent == 50
