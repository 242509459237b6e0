"""The agent as a service of systemd: the text of its unit.

Sandboxes need more than most services: user namespaces, a /proc without anything mounted over it (or they could not
mount one of their own), and control groups that may be written. So `RestrictNamespaces`, `ProtectKernelTunables`,
`ProtectProc` and `ProtectControlGroups` stay off; so does `ProtectClock`, which would take graphics cards away.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

NAME = "fallow-agent.service"
SYSTEM_FOLDER = Path("/etc/systemd/system")
PRIVATE = "PrivateTmp=yes"
HIDDEN = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - what systemd hides, nothing is put there
OWN_MEMORY_MIB = 256
"""On top of what is offered: the agent itself, and what sandboxes take around the work."""


class Unit(NamedTuple):
    """What the text depends on.

    `command` starts the agent. `user` (a name; empty for a user's own service) is whom a system service runs as,
    `groups` are further ones of it (`input`, to see whether somebody is there). `memory_mib` is what is offered in all;
    None when the machine has not joined a network. `setuid_bwrap`: this machine's bubblewrap needs its setuid bit.
    """

    command: Sequence[str]
    home: Path
    user: str = ""
    groups: Sequence[str] = ()
    memory_mib: int | None = None
    setuid_bwrap: bool = False


def unit_text(unit: Unit) -> str:
    """Write the unit."""
    system = bool(unit.user)
    service = [
        "Type=exec",
        f"ExecStart={' '.join(_quoted(word) for word in unit.command)}",
        *([f"User={unit.user}"] if system else []),
        *([f"SupplementaryGroups={' '.join(unit.groups)}"] if system and unit.groups else []),
        "Restart=always",
        "RestartSec=5",
        "# The first SIGTERM lets the agent hand in what it has done; what is left after that is killed.",
        "KillSignal=SIGTERM",
        "KillMode=mixed",
        "TimeoutStopSec=30",
        "",
        "# Behind everything that the machine's owner does.",
        "Nice=10",
        "IOSchedulingClass=idle",
        "CPUWeight=10",
        "OOMScoreAdjust=500",
        *([f"MemoryHigh={unit.memory_mib + OWN_MEMORY_MIB}M"] if unit.memory_mib is not None else []),
        "# Each lease gets a control group of its own below this one.",
        "Delegate=cpu memory pids",
        "",
        "UMask=0077",
        "LockPersonality=yes",
        "RestrictRealtime=yes",
        "SystemCallArchitectures=native",
        *_hardening(unit, system=system),
    ]
    head = [
        "Description=Fallow agent: puts this machine's idle share to work",
        *(["After=network-online.target", "Wants=network-online.target"] if system else []),
        "# Not once it has left its network.",
        f"ConditionPathExists={unit.home / 'state.json'}".replace("%", "%%"),
    ]
    install = ["WantedBy=multi-user.target" if system else "WantedBy=default.target"]
    parts = {"Unit": head, "Service": service, "Install": install}
    return "\n\n".join("\n".join([f"[{name}]", *lines]) for name, lines in parts.items()) + "\n"


def hidden_by(text: str, home: Path) -> Sequence[Path]:
    """Of which folders the agent of this home sees others than all programs, as the service whose unit this is."""
    return HIDDEN if PRIVATE in text.splitlines() and _quoted(str(home.absolute())) in text else ()


def hidden_from(home: Path) -> Sequence[Path]:
    """The same of the system service that is set up on this machine, if one is."""
    file = SYSTEM_FOLDER / NAME
    return hidden_by(file.read_text("utf-8"), home) if os.access(file, os.R_OK) else ()


def _hardening(unit: Unit, *, system: bool) -> list[str]:
    if unit.setuid_bwrap:
        return ["# NoNewPrivileges stays off: the bubblewrap of this machine needs its setuid bit."]
    lines = ["NoNewPrivileges=yes", "RestrictSUIDSGID=yes"]
    if system:
        lines += [
            # Not "strict", under which all else is read-only: what its owner lends may be anywhere, now or later on.
            "ProtectSystem=full",
            f"ReadWritePaths={_quoted(str(unit.home))}",
            # Where containers of root's are kept: not in a home that others must not pass.
            *(["StateDirectory=fallow"] if unit.user == "root" else []),
            PRIVATE,
            "ProtectHostname=yes",
            "ProtectKernelModules=yes",
            "RemoveIPC=yes",
        ]
    return lines


def _quoted(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'
