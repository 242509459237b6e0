"""Compile the contracts, and write what the package needs of them: ABI and bytecode, so that it needs no compiler.

    python tools/write_contracts.py [--check]

With --check nothing is written: the exit code is 1 where a committed file is not what the sources compile to. The
compiler and its settings are pinned in contracts/, so that the same sources give the same bytes on every machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CONTRACTS = ROOT / "contracts"
COMMITTED = ROOT / "src/fallow/data/contracts"
NAMES = ("Distributor", "FallowToken", "StakeVault", "TestDollars", "TimelockController", "Validators")


def main() -> int:
    """Write or check all files; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    check = parser.parse_args().check
    forge("build")
    code = 0
    for name in NAMES:
        path, text = COMMITTED / f"{name}.json", committed_form(name)
        if not check:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            print(f"{path.relative_to(ROOT)} is not what contracts/src compiles to: make contracts", file=sys.stderr)
            code = 1
    return code


def forge_test(*arguments: str) -> str:
    """Run the contracts' own tests, on what the sources compile to for the package. Raises as `forge`."""
    forge("build")
    return forge("test", *arguments, profile="tests")


def forge(*arguments: str, profile: str = "default") -> str:
    """Run forge in contracts/, after installing it; returns what it printed.

    Raises:
        SystemExit: it failed.
    """
    stamp = "contracts/node_modules/.stamp"
    subprocess.run(["make", "--silent", stamp], cwd=ROOT, check=True)
    command = [str(CONTRACTS / "node_modules/.bin/forge"), *arguments]
    environment = {**os.environ, "FOUNDRY_PROFILE": profile}
    done = subprocess.run(command, cwd=CONTRACTS, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def committed_form(name: str) -> str:
    """The file that the package holds for one contract: ABI, and bytecode as hexadecimal digits."""
    built: dict[str, Any] = json.loads((CONTRACTS / f"out/{name}.sol/{name}.json").read_text())
    kept = {"abi": built["abi"], "bytecode": built["bytecode"]["object"].removeprefix("0x")}
    return json.dumps(kept, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.exit(main())
