"""fallow agent service: the agent as a service of systemd."""

from __future__ import annotations

import getpass
import shutil
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from fallow.cli.agent_home import DEFAULT_HOME, Home

if TYPE_CHECKING:
    from fallow.agent.home import Settings

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
    from fallow.agent.unit import NAME, SYSTEM_FOLDER, Unit, hidden_by, unit_text  # noqa: PLC0415 - not needed for the help

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
    _check_lent(path, hidden_by(text, path))
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
    settings = _settings(home)
    return settings.total.memory_mib if settings is not None else None


def _check_lent(home: Path, hidden: Sequence[Path]) -> None:
    """Refuse a service that would not see what is lent."""
    from fallow.agent.lending import check_seen  # noqa: PLC0415 - not needed for the help
    from fallow.bootstrap.plugins import load_verticals  # noqa: PLC0415 - as above

    settings = _settings(home)
    if settings is not None and hidden:
        check_seen(settings.lends, load_verticals(), hidden)


def _settings(home: Path) -> Settings | None:
    from fallow.agent.home import Home as Folder  # noqa: PLC0415 - not needed for the help

    if not home.exists():
        return None
    folder = Folder(home)
    return folder.state().settings if folder.joined else None


def _setuid_bwrap() -> bool:
    bwrap = shutil.which("bwrap")
    return bwrap is not None and bool(Path(bwrap).stat().st_mode & stat.S_ISUID)
