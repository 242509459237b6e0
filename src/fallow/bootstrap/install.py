"""What a network hands to machines that have nothing of Fallow yet: a wheel of its code, and a script to install it.

install/install.sh      the script; who runs it has checked its hash
install/fallow-….whl    the wheel; its hash is in the script
"""

from __future__ import annotations

import os
from pathlib import Path

from fallow.bootstrap.wheel import pack_wheel
from fallow.http.install import Installer

FOLDER = "install"
SCRIPT = "install.sh"
_TEMPLATE = Path(__file__).with_name(SCRIPT)


def make_installer() -> Installer:
    """Pack the code that runs here. The same code makes the same bytes, whenever and wherever."""
    wheel = pack_wheel()
    template = _TEMPLATE.read_text("utf-8")
    script = template.replace("@WHEEL@", wheel.name).replace("@SHA256@", wheel.sha256)
    return Installer(script.encode(), wheel.name, wheel.data)


def write_installer(data: Path, installer: Installer) -> None:
    """Keep it for the gateways: made once, at the start of the network."""
    folder = data / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    for old in folder.glob("*.whl"):
        if old.name != installer.wheel_name:
            old.unlink()
    # The script comes last: what it names is there.
    _replace(folder / installer.wheel_name, installer.wheel)
    _replace(folder / SCRIPT, installer.script)


def read_installer(data: Path) -> Installer | None:
    """Return what `write_installer` kept; None before the network has ever started."""
    folder = data / FOLDER
    wheels = list(folder.glob("*.whl"))
    if not wheels:
        return None
    return Installer((folder / SCRIPT).read_bytes(), wheels[0].name, wheels[0].read_bytes())


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)
