"""fallow agent service: the agent as a service of systemd."""

from __future__ import annotations

import getpass
import shutil
import stat
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from fallow.cli.agent_home import DEFAULT_HOME, Home

SYSTEM_FOLDER = Path("/etc/systemd/system")
USER_FOLDER = Path("~/.config/systemd/user")


def service(
    *,
    home: Home = DEFAULT_HOME,
    system: Annotated[
        bool, Parameter(negative="--user", help="Serve from the machine's start on, or as a service of this user.")
    ] = False,
    only_print: Annotated[
        bool, Parameter(name="--print", negative="", help="Show the unit, and change nothing.")
    ] = False,
) -> None:
    """Write a systemd unit that keeps the agent running, and say how to start it."""
    from fallow.agent.unit import NAME, Unit, unit_text  # noqa: PLC0415 - not needed for the help

    path = home.expanduser().absolute()
    text = unit_text(
        Unit(
            command=[*_fallow(), "agent", "run", "--home", str(path)],
            home=path,
            user=_owner(path) if system else "",
            groups=_groups(),
            memory_mib=_memory_mib(path),
            setuid_bwrap=_setuid_bwrap(),
        )
    )
    if only_print:
        print(text, end="")
        return
    file = (SYSTEM_FOLDER if system else USER_FOLDER.expanduser()) / NAME
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")
    scope = "" if system else " --user"
    print(f"Wrote {file}. Start it, now and at each start of the machine:")
    print(f"  systemctl{scope} daemon-reload && systemctl{scope} enable --now {NAME}")
    if not system:
        print("To have it run while you are not logged in: loginctl enable-linger")


def _fallow() -> list[str]:
    script = Path(sys.executable).with_name("fallow")
    return [str(script)] if script.exists() else [sys.executable, "-m", "fallow.cli.main"]


def _owner(home: Path) -> str:
    return home.owner() if home.exists() else getpass.getuser()


def _groups() -> list[str]:
    import grp  # noqa: PLC0415 - not on every system

    return [group.gr_name for group in grp.getgrall() if group.gr_name == "input"]


def _memory_mib(home: Path) -> int | None:
    from fallow.agent.home import Home as Folder  # noqa: PLC0415 - not needed for the help

    if not home.exists():
        return None
    folder = Folder(home)
    return folder.state().settings.total.memory_mib if folder.joined else None


def _setuid_bwrap() -> bool:
    bwrap = shutil.which("bwrap")
    return bwrap is not None and bool(Path(bwrap).stat().st_mode & stat.S_ISUID)
