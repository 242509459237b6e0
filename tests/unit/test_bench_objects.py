"""What benchmarks of object stores say of processor time."""

from __future__ import annotations

import subprocess
import sys

from bench._objects import Processes

BUSY = "for number in range(3_000_000): pass\nprint(flush=True)\ninput()"


def test_what_a_process_took_is_not_forgotten_when_it_ends() -> None:
    with subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        taken = Processes(lambda: [process.pid], lambda _: "store")
        before = taken()["store"]
        process.communicate(b"\n")
    assert taken()["store"] == before > 0
