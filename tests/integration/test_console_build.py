"""What the package holds of the console is what `web/` builds to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.capability import require

ROOT = Path(__file__).parents[2]


def test_the_package_holds_what_the_sources_build_to() -> None:
    require("npm")
    command = [sys.executable, "tools/write_console.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
