"""Works for a roll call in a process of its own; the agent's side."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from typing import Final

from fallow.domain.errors import Unavailable
from fallow.ports.vertical.capacity import Exercise
from fallow.verticals.compute.core.capacity import Steps
from fallow.verticals.compute.core.steps import BYTES

SLOW_S: Final = 10.0
"""So much longer than asked a starved process may take before it is given up."""


async def exert(exercise: Exercise) -> Steps:
    """See `fallow.ports.vertical.worker.Worker.exert`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-m",
        "fallow.verticals.compute.worker.lanes",
        exercise.challenge.hex(),
        exercise.node.hex(),
        str(exercise.cpu_milli),
        str(exercise.work_ms),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        data = await _output(process, exercise)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if process.returncode or len(data) % BYTES:
        raise Unavailable("node.worker_failed", "The process that works for a roll call failed.")
    values = [data[start : start + BYTES] for start in range(0, len(data), BYTES)]
    return await asyncio.to_thread(Steps, values)


async def _output(process: asyncio.subprocess.Process, exercise: Exercise) -> bytes:
    """What it prints until it ends, unless it is cancelled or takes far too long."""
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(process.communicate())
        ending = group.create_task(exercise.cancel.wait())
        await asyncio.wait(
            {reading, ending}, timeout=exercise.work_ms / 1000 + SLOW_S, return_when=asyncio.FIRST_COMPLETED
        )
        ending.cancel()
        reading.cancel()
    if reading.cancelled() or exercise.cancel.is_set():
        raise Unavailable("node.worker_stopped", "The work for a roll call was ended.")
    return reading.result()[0]
