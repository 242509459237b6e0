"""Deeply nested documents, for the processes of all roles: refused, where they could overflow the stack."""

from __future__ import annotations

import subprocess
import sys

import pytest

READS = """
import importlib, sys, msgspec
importlib.import_module(sys.argv[1])
try:
    msgspec.json.decode(b"[" * 200_000)
except RecursionError:
    print("refused;", "with" if "eth" in sys.modules else "without", "an EVM")
"""


@pytest.mark.parametrize(
    ("module", "evm"), [("serve", "without"), ("roles", "without"), ("wallet", "without"), ("chain", "with")]
)
def test_what_is_nested_overflows_no_roles_stack(module: str, evm: str) -> None:
    """Libraries may raise how deep the interpreter recurses, on which all decoders rely."""
    line = [sys.executable, "-c", READS, f"fallow.bootstrap.{module}"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"refused; {evm} an EVM\n"), done.stderr


def test_signing_a_transaction_makes_nothing_recurse_so_deep() -> None:
    signs = "from fallow.domain.transactions import Unsigned; Unsigned(1, 0, bytes(20), b'', 21_000, 1, 1).digest"
    done = subprocess.run(
        [sys.executable, "-c", signs + "\n" + READS, "json"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "refused; without an EVM\n"), done.stderr
