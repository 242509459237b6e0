"""Build the console from `web/`, and write what the package serves of it, so that no network needs Node.js.

    python tools/write_console.py [--check]

With --check nothing is written: the exit code is 1 where the committed files are not what the sources make. What the
sources know of the gateway's answers is made anew from its OpenAPI document first, and types are checked against it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from fallow.adapters.memory.bus import MemoryHub

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
WEB = ROOT / "web"
COMMITTED = ROOT / "src/fallow/web"
TYPES = WEB / "src/lib/gateway.d.ts"


def main() -> int:
    """Write or check all files; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    check = parser.parse_args().check
    subprocess.run(["make", "--silent", "web/node_modules/.stamp"], cwd=ROOT, check=True)
    write_types()
    program("svelte-check", "--fail-on-warnings")
    if not check:
        program("vite", "build", "--outDir", str(COMMITTED))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        program("vite", "build", "--outDir", folder)
        if files(Path(folder)) != files(COMMITTED):
            print(f"{COMMITTED.relative_to(ROOT)} is not what web/ builds to: make console", file=sys.stderr)
            return 1
    return 0


def write_types() -> None:
    """Make TypeScript's types of what the gateway answers."""
    with tempfile.TemporaryDirectory() as folder:
        document = Path(folder, "openapi.json")
        document.write_text(json.dumps(asyncio.run(described())))
        program("openapi-typescript", str(document), "--output", str(TYPES))


async def described() -> dict[str, object]:
    """The OpenAPI document, as a gateway serves it."""
    from tests.unit.fake_network import FakeNetwork  # noqa: PLC0415 - found by the line above

    return dict(FakeNetwork(MemoryHub()).app.openapi_schema.to_schema())


def files(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def program(name: str, *arguments: str) -> None:
    """Run one of the console's tools in web/.

    Raises:
        SystemExit: it failed.
    """
    command = [str(WEB / "node_modules/.bin" / name), *arguments]
    done = subprocess.run(command, cwd=WEB, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    sys.exit(main())
