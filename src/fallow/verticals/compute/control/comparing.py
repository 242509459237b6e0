"""Comparing results as their buyer's tolerance says: by their numbers, or by his own program in the WASM sandbox.

A comparator is a WASI program. It finds one result in /in/a and the other in /in/b, each with `stdout` and its files in
`out/`, and exits with 0 where they agree and with 1 where they do not. Whatever else it does is its fault, and so is to
call a result unlike itself or to depend on which one comes first.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Final

from fallow.domain.errors import NotFound, TooMuch, Unavailable
from fallow.domain.orders import Tolerance
from fallow.domain.verification import Compared
from fallow.ports.blobs import Blobs
from fallow.verticals.compute.control.results import Results
from fallow.verticals.compute.worker.wasm import SEED_BYTES, WasmJob, prune_cache, run_wasm

PROGRAM_BYTES_MAX: Final = 16 << 20
MEMORY_BYTES_MAX: Final = 256 << 20
SAID_BYTES_MAX: Final = 1 << 20
TIME_LIMIT_S: Final = 30.0
"""All comparisons of one item together; others' wait behind them."""
COMPILED_BYTES_MAX: Final = 256 << 20
AGREE, DIFFER = 0, 1
_CHILD: Final = "fallow.verticals.compute.control.numbers_child"


class _Fault(Exception):
    """The comparator cannot be relied on; the argument is the reason."""


class ToleranceComparer:
    """See `fallow.ports.vertical.control.Comparer`. `folder` is for scratch and for compiled programs."""

    def __init__(self, blobs: Blobs, folder: Path) -> None:
        self._blobs = blobs
        self._folder = folder

    async def compare(self, owner: str, tolerance: Tolerance, results: Sequence[str]) -> Compared:
        """See the port."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._folder) as scratch:
            try:
                return Compared(await self._near(Results(self._blobs, owner), tolerance, results, Path(scratch)))
            except (_Fault, TimeoutError) as error:
                return Compared(fault=str(error) or "comparator.time")

    async def _near(
        self, reader: Results, tolerance: Tolerance, results: Sequence[str], scratch: Path
    ) -> frozenset[tuple[str, str]]:
        whole = await _lay(reader, results, scratch)
        folders = [folder for _, folder in whole]
        async with asyncio.timeout(TIME_LIMIT_S):
            if tolerance.program is None:
                pairs = await _by_numbers(folders, tolerance)
            else:
                program = await _program(reader, tolerance.program, scratch)
                pairs = await self._by_program(folders, program, tolerance.fuel)
        return frozenset((whole[one][0], whole[other][0]) for pair in pairs for one, other in (pair, pair[::-1]))

    async def _by_program(self, folders: Sequence[Path], program: Path, fuel: int) -> list[tuple[int, int]]:
        found = []
        for one, other in combinations_with_replacement(range(len(folders)), 2):
            agree = await self._run(program, folders[one], folders[other], fuel)
            if one == other and not agree:
                raise _Fault("comparator.not_reflexive")
            if one != other and agree is not await self._run(program, folders[other], folders[one], fuel):
                raise _Fault("comparator.not_symmetric")
            if agree and one != other:
                found.append((one, other))
        return found

    async def _run(self, program: Path, one: Path, other: Path, fuel: int) -> bool:
        with tempfile.TemporaryDirectory(dir=program.parent) as workspace:
            for name, folder in (("a", one), ("b", other)):
                shutil.copytree(folder, Path(workspace) / "in" / name, copy_function=os.link)
            job = WasmJob(
                program=program,
                workspace=Path(workspace),
                seed=bytes(SEED_BYTES),
                fuel_max=fuel,
                memory_bytes_max=MEMORY_BYTES_MAX,
                output_bytes_max=SAID_BYTES_MAX,
                time_limit_s=TIME_LIMIT_S,
            )
            compiled = self._folder / "compiled"
            outcome = await run_wasm(job, cache_dir=compiled)
            await asyncio.to_thread(prune_cache, compiled, COMPILED_BYTES_MAX)
        if outcome.reason != "exited":
            raise _Fault(f"comparator.{outcome.reason}")
        if outcome.exit_code not in {AGREE, DIFFER}:
            raise _Fault("comparator.exit")
        return outcome.exit_code == AGREE


async def _lay(reader: Results, results: Sequence[str], scratch: Path) -> list[tuple[str, Path]]:
    """Write down the results that are whole and not too large; the others are near nothing.

    Where all of them are too large it is the program that makes them so, and not a node that lies.
    """
    whole, large = [], 0
    for result in results:
        try:
            if await reader.lay(result, scratch / result):
                whole.append((result, scratch / result))
        except TooMuch:
            large += 1
    if large and not whole:
        raise _Fault("comparator.too_large")
    return whole


async def _program(reader: Results, sha256: str, scratch: Path) -> Path:
    try:
        code = await reader.read(sha256, PROGRAM_BYTES_MAX)
    except (NotFound, TooMuch) as error:
        raise _Fault("comparator.missing" if isinstance(error, NotFound) else "comparator.too_large") from None
    path = scratch / "program.wasm"
    await asyncio.to_thread(path.write_bytes, code)
    return path


async def _by_numbers(folders: Sequence[Path], tolerance: Tolerance) -> list[tuple[int, int]]:
    asked = {"folders": [str(folder) for folder in folders], "rtol": tolerance.rtol, "atol": tolerance.atol}
    line = json.dumps({**asked, "cpu_s": round(TIME_LIMIT_S)}).encode() + b"\n"
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-m", _CHILD, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env={}
    )
    try:
        said, _ = await child.communicate(line)
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode:
        raise _Fault("comparator.numbers")
    try:
        return [(one, other) for one, other in json.loads(said)]
    except ValueError as error:
        raise Unavailable("compute.comparing", f"Results could not be compared: {error}.") from error
