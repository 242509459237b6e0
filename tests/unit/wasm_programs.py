"""Small WebAssembly programs for the tests of the runner, written as text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import wasmtime

from fallow.verticals.compute.worker.wasm import WasmJob, WasmOutcome, run_wasm
from fallow.verticals.compute.worker.wasm_wasi import CALLS, MODULE

KINDS = {"i": "i32", "I": "i64"}
# Memory of the test programs: 0..99 scratch (an iovec at 0, results at 32), texts from 100, buffers from 1024.
TEXTS = '(data (i32.const 100) "hello\\n") (data (i32.const 200) "a.txt") (data (i32.const 300) "%s")'
SPIN = "(loop $spin (br $spin))"
MIB = 1 << 20


def wasm(*body: str, text: str = "", memory: int = 1, extra: str = "") -> bytes:
    """A program whose _start is `body`, with every WASI call imported under its own name."""
    imports = "".join(
        f'(import "{MODULE}" "{name}" (func ${name} {"".join(f"(param {KINDS[k]})" for k in letters)}'
        f"{'' if name == 'proc_exit' else ' (result i32)'}))"
        for name, letters in CALLS.items()
    )
    return bytes(
        wasmtime.wat2wasm(
            f'(module {imports} (memory (export "memory") {memory}) {TEXTS % text} {extra}'
            f'(func (export "_start") (local $i i32) {" ".join(body)}))'
        )
    )


def call(name: str, *args: int | str) -> str:
    """One WASI call whose errno goes to local $i; integers become constants, strings are taken as they are."""
    kinds = (KINDS[letter] for letter in CALLS[name])
    values = (arg if isinstance(arg, str) else f"({kind}.const {arg})" for kind, arg in zip(kinds, args, strict=True))
    return f"(local.set $i (call ${name} {' '.join(values)}))"


def write(fd: int | str, pointer: int, size: int | str) -> str:
    """Write memory to a descriptor."""
    length = size if isinstance(size, str) else f"(i32.const {size})"
    vector = f"(i32.store (i32.const 0) (i32.const {pointer})) (i32.store (i32.const 4) {length})"
    return vector + call("fd_write", fd, 0, 1, 32)


def opened(folder: int, path: int, size: int, how: int, rights: int) -> str:
    """Open a path; the descriptor is stored at 40."""
    return call("path_open", folder, 0, path, size, how, rights, 0, 0, 40)


EXIT_WITH_ERRNO = "(call $proc_exit (local.get $i))"


class Runs:
    """Runs programs, each in a new workspace below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.workspace = folder
        self.count = 0

    def job(self, program: bytes, files: dict[str, bytes] | None = None, **changes: Any) -> WasmJob:
        """A job in a new workspace, with modest limits; `changes` go over its fields."""
        self.count += 1
        self.workspace = self.folder / str(self.count)
        (self.workspace / "in").mkdir(parents=True)
        for name, data in (files or {}).items():
            (self.workspace / "in" / name).write_bytes(data)
        path = self.folder / f"{self.count}.wasm"
        path.write_bytes(program)
        defaults: dict[str, Any] = {
            "program": path,
            "workspace": self.workspace,
            "seed": bytes(32),
            "fuel_max": 10**9,
            "memory_bytes_max": 64 * MIB,
            "output_bytes_max": MIB,
            "time_limit_s": 30.0,
        }
        return WasmJob(**defaults | changes)

    async def run(self, program: bytes, files: dict[str, bytes] | None = None, **changes: Any) -> WasmOutcome:
        """Run a new job."""
        return await run_wasm(self.job(program, files, **changes), nice=0)

    @property
    def stdout(self) -> bytes:
        """What the last job wrote."""
        return (self.workspace / "stdout").read_bytes()
