"""The contracts on forge's EVM (units, fuzzing, invariants), and that the package holds what they compile to."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.capability import require
from tools.write_contracts import COMMITTED, NAMES, ROOT, forge_test

pytestmark = pytest.mark.xdist_group("contracts")


@pytest.fixture(autouse=True)
def _npm() -> None:
    require("npm")


def test_the_contracts_own_tests() -> None:
    suites = json.loads(forge_test("--json"))
    results = {name: result for suite in suites.values() for name, result in suite["test_results"].items()}
    assert {name: result["status"] for name, result in results.items() if result["status"] != "Success"} == {}
    assert {"testClaimPaysTheDifference()", "invariantNothingIsLost()"} <= set(results)


def test_the_package_holds_what_the_sources_compile_to() -> None:
    command = [sys.executable, "tools/write_contracts.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_what_is_deployed_fits_the_chains_limit(name: str) -> None:
    """EIP-170: at most 24,576 bytes; the code that deploys it is longer than what it deploys."""
    assert len(json.loads((COMMITTED / f"{name}.json").read_text())["bytecode"]) // 2 <= 24_576
