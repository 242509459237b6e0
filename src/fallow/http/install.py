"""What a machine without Fallow downloads."""

from __future__ import annotations

import hashlib
from typing import NamedTuple


class Installer(NamedTuple):
    """The script that installs an agent, and the wheel whose hash it holds."""

    script: bytes
    wheel_name: str
    wheel: bytes

    @property
    def sha256(self) -> str:
        """The script's SHA-256 in hex: what makes it safe to run, wherever it was downloaded from."""
        return hashlib.sha256(self.script).hexdigest()
