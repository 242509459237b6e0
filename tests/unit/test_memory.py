"""Freed memory stays with a process that asks for that, and the system clears no page of it anew."""

from __future__ import annotations

import subprocess
import sys

import pytest

PAGES = 50 * (4 << 20) // 4096
SCRIPT = """
import resource, sys
from fallow.bootstrap.memory import keep_freed_memory

def again():
    blocks = [bytearray(1 << 20) for _ in range(4)]

if "keep" in sys.argv:
    keep_freed_memory()
again()
again()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    again()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc alone")
def test_what_is_freed_is_not_taken_from_the_system_again() -> None:
    def faults(*arguments: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=True, timeout=60
        )
        return int(done.stdout)

    assert faults() > PAGES // 2
    assert faults("keep") < PAGES // 20
