"""An agent that lies: it does the work and then changes the last byte of every file that came out.

It stands for a cheating owner in the demo and in tests. Nothing of Fallow helps it: it replaces a function of the
worker in its own process, as a cheat would, and is an honest agent otherwise.
"""

from __future__ import annotations

from typing import Any

from fallow.cli.main import main
from fallow.verticals.compute.worker import worker
from fallow.verticals.compute.worker.wasm import WasmJob, WasmOutcome

LAST_BYTE = 0xFF
honest = worker.run_wasm


async def lie(job: WasmJob, **options: Any) -> WasmOutcome:  # noqa: ANN401 - whatever the worker passes on
    """Run the program, then spoil what it left."""
    outcome = await honest(job, **options)
    for path in (job.workspace / "out").rglob("*"):
        if path.is_file() and path.stat().st_size:
            data = bytearray(path.read_bytes())
            data[-1] ^= LAST_BYTE
            path.unlink()
            path.write_bytes(data)
    return outcome


if __name__ == "__main__":
    worker.run_wasm = lie  # type: ignore[attr-defined]
    main()
