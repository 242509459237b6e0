"""One child process that dies with us.

Start children from the main thread. The kernel ties "my parent died" to the *thread* that forked the child, so one
started from a worker thread would be killed when that thread ends. asyncio forks in the thread that runs the loop.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fallow.adapters.engines import launch
from fallow.adapters.engines.users import EngineUser
from fallow.domain.errors import Unavailable

LOG_LIMIT = 10 * 1024 * 1024
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
"""What a program has, whatever ours is."""

_TAIL = 2000

Steps = Sequence[tuple[signal.Signals, float]]
"""How to stop a process: signals in rising order of violence, each with the seconds to wait for its effect."""


@dataclass(frozen=True, slots=True)
class Program:
    """What to run, as whom, where its output goes, and the signal that it gets when we are gone."""

    argv: tuple[str, ...]
    user: EngineUser
    log: Path
    death_signal: signal.Signals
    folder: Path = Path("/")
    environment: Mapping[str, str] = field(default_factory=ENVIRONMENT.copy)


class Child:
    """A running program. What it says stands in its log from byte `log_from` on."""

    def __init__(self, process: Process, program: Program, log_from: int) -> None:
        self._process = process
        self._log = program.log
        self._log_from = log_from

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it is known to have ended."""
        return self._process.returncode is not None

    async def wait(self) -> str:
        """Wait for its end; returns how it ended, in words."""
        code = await self._process.wait()
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"

    async def ready(self, condition: Callable[[], bool], seconds: float) -> None:
        """Wait until `condition` holds.

        Raises:
            Unavailable: the program ended before, or `seconds` passed; the message carries its last words.
        """
        if await wait_until(lambda: self.ended or condition(), seconds) and not self.ended:
            return
        why = await self.wait() if self.ended else f"not ready after {seconds:.0f} s"
        raise Unavailable(
            "engine.start_failed",
            f"{self._log.stem} did not start ({why}). It said: {self.last_words()}",
            f"Its log is {self._log}.",
        )

    def last_words(self) -> str:
        """The last lines that it has written, on one line."""
        return _tail(self._log, self._log_from)

    async def bound_log(self) -> None:
        """Put its log aside when that has grown too large, although it goes on writing.

        What it says while the log is copied may be lost.

        Raises:
            OSError: there is no room for the copy; the log stays as it is.
        """
        if self._log.stat().st_size > LOG_LIMIT:
            await asyncio.to_thread(_put_aside, self._log)

    async def stop(self, steps: Steps) -> None:
        """End it, step by step. When cancelled meanwhile, the second step is sent without waiting.

        Raises:
            Unavailable: it is still there after the last step.
        """
        try:
            for number, seconds in steps:
                self._send(number)
                if await self._ends_within(seconds):
                    return
        finally:
            if not self.ended:
                self._send(steps[min(1, len(steps) - 1)][0])
        raise Unavailable(
            "engine.will_not_stop", f"Process {self.pid} ({self._log.stem}) does not end.", "Look at dmesg."
        )

    def _send(self, number: signal.Signals) -> None:
        try:
            self._process.send_signal(number)
        except ProcessLookupError:
            return  # it ended on its own, which is what was wanted

    async def _ends_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._process.wait()
        except TimeoutError:
            return False
        return True


async def spawn(program: Program) -> Child:
    """Start a program as a direct child that never outlives us and does not see the terminal's Ctrl-C.

    Raises:
        OSError: the machine has no process or memory left.
    """
    log = open_log(program.log)
    log_from = os.fstat(log).st_size
    try:
        process = await asyncio.create_subprocess_exec(
            *_launcher(program),
            stdin=DEVNULL,
            stdout=log,
            stderr=log,
            cwd=program.folder,
            env=program.environment,
            start_new_session=True,
        )
    finally:
        os.close(log)
    return Child(process, program, log_from)


async def run(program: Program, seconds: float) -> None:
    """Run a program to its successful end.

    Raises:
        Unavailable: it failed or took longer; the message carries its last words.
    """
    child = await spawn(program)
    try:
        await asyncio.wait_for(child.wait(), seconds)
    finally:
        if not child.ended:
            await child.stop([(signal.SIGKILL, 5.0)])
    how = await child.wait()
    if how != "exit status 0":
        raise Unavailable(
            "engine.start_failed",
            f"{program.argv[0]} failed ({how}). It said: {child.last_words()}",
            f"Its log is {program.log}.",
        )


def _launcher(program: Program) -> list[str]:
    options = {"--parent": os.getpid(), "--signal": int(program.death_signal)}
    if program.user.drop:
        options |= {"--uid": program.user.uid, "--gid": program.user.gid}
    flat = [part for name, value in options.items() for part in (name, str(value))]
    return [sys.executable, "-I", "-S", launch.__file__, *flat, "--", *program.argv]


async def wait_until(condition: Callable[[], bool], seconds: float, every: float = 0.01) -> bool:
    """Ask again and again until `condition` holds (True) or `seconds` are over (False)."""
    try:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - other processes set no event of ours
                await asyncio.sleep(every)
    except TimeoutError:
        return False
    return True


def open_log(path: Path) -> int:
    """Open a log for appending and return its file descriptor. One that grew too large becomes `<name>.1` first."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    if path.exists() and path.stat().st_size > LOG_LIMIT:
        path.replace(_aside(path))
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _aside(path: Path) -> Path:
    return path.with_name(path.name + ".1")


def _put_aside(path: Path) -> None:
    handle = os.open(_aside(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as kept, path.open("rb") as full:
        shutil.copyfileobj(full, kept)
    os.truncate(path, 0)  # who writes appends, and so goes on at the beginning


def _tail(path: Path, start: int) -> str:
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _TAIL, start if start <= size else 0))
        lines = file.read(_TAIL).decode("utf-8", "replace").splitlines()
    return " | ".join(line.strip() for line in lines[-5:]) or "(nothing)"
