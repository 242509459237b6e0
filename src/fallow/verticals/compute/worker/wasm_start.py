"""The process that one program runs in, and one that waits, ready, before there is a program for it.

Three quarters of the time from an order to a program's first output is Python loading wasmtime. A machine that has
just done such work is likely to get more of it, so that one process loads it in advance, and ends when nothing came.
Each process runs one program only.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import select
import signal
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Final, Literal

from fallow.domain.errors import Unavailable
from fallow.verticals.compute.worker.wasm_files import peak_memory

IDLE_S: Final = 60.0
"""For so long a process waits for work; it holds some 25 MB, 15 of them its own."""

# The answer comes in one write to a pipe, which takes 64 KiB without waiting.
_ANSWER_BYTES_MAX: Final = 64 * 1024
# The child must not run the package's own __init__ files (they import what a worker needs, and cost time): it gets
# empty packages of the same names, and the folder that holds wasmtime instead of all of site-packages' start-up code.
_BOOT: Final = """
import sys, types
source, site = sys.argv.pop(1), sys.argv.pop(1)
path = ""
for part in "fallow", "verticals", "compute", "worker":
    source, path = source + "/" + part, path + "." + part if path else part
    sys.modules[path] = types.ModuleType(path)
    sys.modules[path].__path__ = [source]
sys.path.append(site)
from fallow.verticals.compute.worker.wasm_child import main
main()
"""


class Child:
    """The child process, from its start to its last rites. It waits until it is given its job."""

    def __init__(self) -> None:
        """Start it. Here and not in a thread: the child dies with the very thread that started it.

        Raises:
            Unavailable: wasmtime is not installed.
        """
        spec = importlib.util.find_spec("wasmtime")
        if spec is None or spec.origin is None:
            raise Unavailable("compute.no_wasmtime", "wasmtime is not installed.", "Install fallow[agent].")
        source, site = str(Path(__file__).parents[4]), str(Path(spec.origin).parents[1])
        self.killed: Literal["cancelled", "time"] | None = None
        self.status: int | None = None
        self.cpu_ms = 0
        self.peak_memory_bytes = 0
        self.answer = b""
        self._answers, writer = os.pipe()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and code, nothing of the job's
                [sys.executable, "-I", "-S", "-c", _BOOT, source, site, str(writer), str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(writer,),
                cwd="/",
                env={"LC_ALL": "C.UTF-8"},
                start_new_session=True,
            )
        except BaseException:
            os.close(self._answers)
            raise
        finally:
            os.close(writer)
        self.fd = os.pidfd_open(self._process.pid)

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it is over; it can be reaped then."""
        return bool(select.select([self.fd], [], [], 0)[0])

    def give(self, line: bytes) -> None:
        """Tell it its job, the only one that it gets."""
        with contextlib.suppress(BrokenPipeError), self._process.stdin or contextlib.nullcontext() as pipe:
            if pipe is not None:
                pipe.write(line)

    def kill(self, reason: Literal["cancelled", "time"]) -> None:
        """End it for `reason`, unless it has ended. What it held is asked before: afterwards nobody knows."""
        if self.killed is None and not self.ended:
            self.killed = reason
            self.peak_memory_bytes = peak_memory(self.pid)
            signal.pidfd_send_signal(self.fd, signal.SIGKILL)

    def reap(self) -> None:
        """Collect what it leaves; it has ended or was killed, so this does not wait."""
        _, status, usage = os.wait4(self.pid, 0)
        self.status = self._process.returncode = os.waitstatus_to_exitcode(status)
        self.cpu_ms = round((usage.ru_utime + usage.ru_stime) * 1000)
        self.answer = os.read(self._answers, _ANSWER_BYTES_MAX)
        os.close(self._answers)
        os.close(self.fd)
        if self._process.stdin is not None:
            self._process.stdin.close()


class Spare:
    """At most one child that waits. It ends when nobody took it for IDLE_S, or with this object."""

    def __init__(self) -> None:
        self._waiting: list[Child] = []
        self._timer: asyncio.TimerHandle | None = None
        weakref.finalize(self, _end, self._waiting)

    def take(self) -> Child:
        """Return the child that waits, or else a fresh one. Raises what `Child` raises."""
        if self._timer is not None:
            self._timer.cancel()
        child = self._waiting.pop() if self._waiting else Child()
        if not child.ended:
            return child
        child.reap()  # somebody killed it while it waited
        return Child()

    def prepare(self) -> None:
        """Have one wait for IDLE_S from now on; where none can be started there is none."""
        if self._timer is not None:
            self._timer.cancel()
        if not self._waiting:
            with contextlib.suppress(OSError):
                self._waiting.append(Child())
        self._timer = asyncio.get_running_loop().call_later(IDLE_S, _end, self._waiting)


def _end(waiting: list[Child]) -> None:
    while waiting:
        child = waiting.pop()
        child.kill("cancelled")
        child.reap()
