"""Processes of an earlier run that still work on a data folder.

They are recognised by what they are (program and working directory as the kernel tells them), never by a number in
a file: numbers are reused. Where there is no /proc nothing is found.
"""

from __future__ import annotations

import logging
import os
import signal
from contextlib import suppress
from pathlib import Path

from fallow.adapters.engines.process import wait_until
from fallow.domain.errors import Unavailable

_logger = logging.getLogger(__name__)
_GRACE = 6.0  # PostgreSQL kills its own stragglers after five seconds


def processes_on(folder: Path, program: str) -> list[int]:
    """Numbers of the processes that run a file named `program` with `folder` as their working directory."""
    proc = Path("/proc")
    if not proc.is_dir():
        return []
    numbers = (int(entry) for entry in os.listdir(proc) if entry.isdigit())  # noqa: PTH208 - thousands of names
    return [number for number in numbers if _works_on(number, folder, program)]


async def clear_leftovers(folder: Path, program: str, patience: float) -> None:
    """Wait until no process of an earlier run works on `folder`; after `patience` seconds help with signals.

    Raises:
        Unavailable: something is still there even after SIGKILL.
    """
    steps = [(None, patience), (signal.SIGQUIT, _GRACE), (signal.SIGKILL, _GRACE)]
    for number, seconds in steps:
        if number is not None:
            _signal_all(folder, program, number)
        if await wait_until(lambda: not processes_on(folder, program), seconds, every=0.02):
            return
    raise Unavailable(
        "engine.leftover",
        f"Processes {processes_on(folder, program)} of an earlier run still work on {folder} and cannot be ended.",
        "Look at dmesg for a failing disk, or restart the machine.",
    )


def _works_on(number: int, folder: Path, program: str) -> bool:
    try:
        at = Path(f"/proc/{number}/cwd").readlink()
        runs = Path(f"/proc/{number}/exe").readlink()
    except OSError:  # gone, a kernel thread, or somebody else's
        return False
    # A program that was upgraded under a running process is shown with this ending.
    return at == folder and runs.name.removesuffix(" (deleted)") == program


def _signal_all(folder: Path, program: str, number: signal.Signals) -> None:
    for process in processes_on(folder, program):
        with suppress(ProcessLookupError):
            handle = os.pidfd_open(process)
            try:
                # Asked again with the handle held: the number can no longer pass to another process unseen.
                if _works_on(process, folder, program):
                    _logger.warning("process %d of an earlier run on %s gets %s", process, folder, number.name)
                    signal.pidfd_send_signal(handle, number)
            finally:
                os.close(handle)
