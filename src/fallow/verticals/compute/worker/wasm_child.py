"""What runs inside the child process: limits first, then one program, then one line of JSON to the parent.

Started by `wasm_start.Child` with the numbers of the descriptor to answer on and of the parent; reads its job as one
line of JSON on stdin. Only the standard library and wasmtime are imported, so that it starts fast.

The limits here are the second line: fuel, the store's limits and the counted tree (`wasm_files`) stop a program at the
same point on every machine; what the kernel stops, it stops only where those have failed.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any, Final

import wasmtime

from fallow.verticals.compute.worker.wasm_calls import Handle
from fallow.verticals.compute.worker.wasm_files import BLOBS, Folder, Stop, peak_memory
from fallow.verticals.compute.worker.wasm_kept import FOLDER, Kept
from fallow.verticals.compute.worker.wasm_wasi import Wasi, World

_MIB: Final = 1 << 20
# Address space of the interpreter, the compiler and their heaps; the program's memory is reserved on top of it.
_OWN_ADDRESS_SPACE: Final = 1024 * _MIB
# 4 GiB for any 32-bit address and a guard behind it: no check on each access, at the price of address space only.
_RESERVATION: Final = 4096 * _MIB
_GUARD: Final = 32 * _MIB
_ADDRESS_SPACE: Final = _RESERVATION + 2 * _GUARD + _OWN_ADDRESS_SPACE
_STACK: Final = _MIB
_FDS_MAX: Final = 192
_TABLE_ELEMENTS_MAX: Final = 1_000_000
_DETAIL_MAX: Final = 1000
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; leave at once if it has ended already."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def limit(job: dict[str, Any]) -> None:
    """Let the kernel bound this process: time of the processor, address space, descriptors; no core dumps."""
    os.umask(0o077)
    os.nice(job["nice"])
    bounds = (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, _FDS_MAX),
        (resource.RLIMIT_AS, _ADDRESS_SPACE),
        (resource.RLIMIT_CPU, job["cpu_s"]),
    )
    for kind, bound in bounds:
        lower(kind, bound)


def lower(kind: int, bound: int) -> None:
    """Set one limit of the kernel, unless a lower one is in force already."""
    _, hard = resource.getrlimit(kind)
    bound = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
    resource.setrlimit(kind, (bound, bound))


def engine() -> wasmtime.Engine:
    """The engine, with everything off that could differ between machines."""
    config = wasmtime.Config()
    config.consume_fuel = True
    config.cranelift_nan_canonicalization = True
    config.wasm_threads = False
    config.wasm_relaxed_simd = False
    config.wasm_memory64 = False
    config.wasm_multi_memory = False
    config.wasm_component_model = False
    config.parallel_compilation = False  # the order pays for one processor
    config.memory_reservation = _RESERVATION
    config.memory_guard_size = _GUARD
    config.memory_may_move = False
    config.max_wasm_stack = _STACK
    return wasmtime.Engine(config)


def load(with_engine: wasmtime.Engine, program: Path, cached: Path | None) -> wasmtime.Module:
    """The compiled program, from the file `cached` when it is there and fits, else compiled and kept there.

    Loading compiled code is as trusting as running a program of one's own: the parent has checked that nobody else
    can write to that folder.
    """
    if cached is not None and cached.exists():
        try:
            module = wasmtime.Module.deserialize_file(with_engine, str(cached))
            os.utime(cached)  # the parent removes what was unused longest
        except (wasmtime.WasmtimeError, OSError):
            pass  # of another version or processor: compile again
        else:
            return module
    code = program.read_bytes()
    if not code.startswith(b"\0asm"):
        raise Stop("invalid", "the program is not a WebAssembly module")
    try:
        module = wasmtime.Module(with_engine, code)
    except wasmtime.WasmtimeError as error:
        raise Stop("invalid", str(error)) from None
    if cached is not None:
        partial = cached.with_suffix(f".cwasm{os.getpid()}")
        partial.write_bytes(module.serialize())  # the umask keeps it from others
        partial.replace(cached)
    return module


def prepare(job: dict[str, Any], store: wasmtime.Store) -> tuple[Wasi, Folder]:
    """The world of the program: standard streams, /in, /out (the folder in the answer), and perhaps /checkpoint."""
    workspace = Path(job["workspace"])
    world = World(
        args=tuple(text.encode() for text in ("program", *job["args"])),
        env=tuple(f"{name}={value}".encode() for name, value in sorted(job["env"].items())),
        seed=bytes.fromhex(job["seed"]),
        fuel_max=job["fuel"],
    )
    blobs = workspace / BLOBS
    blobs.mkdir()
    wasi = Wasi(store, world, blobs, job["output"])
    tree = wasi.tree
    out = tree.folder(writable=True)
    stdin = tree.file(Path(job["stdin"] or os.devnull), writable=False)
    stdout, stderr = (tree.file(workspace / name, writable=True) for name in ("stdout", "stderr"))
    wasi.handles = {
        0: wasi.open_host(stdin, readable=True, writable=False, seekable=False),
        1: wasi.open_host(stdout, readable=False, writable=True, seekable=False),
        2: wasi.open_host(stderr, readable=False, writable=True, seekable=False),
        3: Handle(tree.load(workspace / "in"), preopen=b"/in"),
        4: Handle(out, preopen=b"/out"),
    }
    if job["checkpoint"]:
        kept = Kept(tree, workspace / FOLDER, blobs)
        wasi.handles[5] = Handle(kept.root, preopen=b"/checkpoint")
        wasi.keep = kept.keep
    return wasi, out


def run(job: dict[str, Any], with_engine: wasmtime.Engine) -> dict[str, Any]:
    """Run the program to its end; what it has written to /out has its names afterwards, however it ended."""
    store = wasmtime.Store(with_engine)
    store.set_fuel(job["fuel"])
    store.set_limits(memory_size=job["memory"], table_elements=_TABLE_ELEMENTS_MAX, instances=1, tables=16, memories=1)
    wasi: Wasi | None = None
    try:
        module = load(with_engine, Path(job["program"]), Path(job["cached"]) if job["cached"] else None)
        # The tree counts what is written; this is for what it might miss.
        lower(resource.RLIMIT_FSIZE, job["output"] + _MIB)
        wasi, out = prepare(job, store)
        end = execute(store, module, wasi, job["memory"])
        try:
            wasi.tree.save(out, Path(job["workspace"]) / "out")
        except Stop as stop:
            end = stop
    except Stop as stop:
        end = stop
    used = wasi.fuel_used() if wasi is not None else 0
    return {"exit_code": end.exit_code, "reason": end.reason, "detail": end.detail[:_DETAIL_MAX], "fuel_used": used}


def execute(store: wasmtime.Store, module: wasmtime.Module, wasi: Wasi, memory_max: int) -> Stop:
    """Call the program's `_start` and say how it ended."""
    linker = wasmtime.Linker(store.engine)
    wasi.link(linker)
    try:
        instance = linker.instantiate(store, module)
        exports = instance.exports(store)
        start, memory = exports.get("_start"), exports.get("memory")
        if not isinstance(start, wasmtime.Func) or not isinstance(memory, wasmtime.Memory):
            return Stop("invalid", "a program must export the function _start and its memory")
        wasi.memory.attach(memory)
        start(store)
    except Stop as stop:
        return stop
    except wasmtime.Trap as trap:
        return explain(trap, wasi.memory.refresh() if wasi.memory.attached else 0, memory_max)
    except wasmtime.WasmtimeError as error:
        text = str(error)
        return Stop("memory" if "exceeds memory limits" in text else "invalid", text)
    return Stop("exited", "", 0)


def explain(trap: wasmtime.Trap, memory: int, memory_max: int) -> Stop:
    """The reason for a trap.

    A program that gives up with its memory nearly full counts as out of memory: it asked for more, was refused, and
    gave up by itself, so that this is as near as the reason can be known.
    """
    message = str(trap)
    try:
        code = trap.trap_code
    except ValueError:
        code = None
    if code is wasmtime.TrapCode.OUT_OF_FUEL:
        return Stop("fuel", "all fuel is used up")
    if code is wasmtime.TrapCode.ALLOCATION_TOO_LARGE or (
        code is wasmtime.TrapCode.UNREACHABLE and memory >= memory_max // 4 * 3
    ):
        return Stop("memory", f"{memory} of {memory_max} bytes in use: {message}")
    return Stop("trap", message)


def main() -> None:
    """Answer one job; whatever goes wrong here that is not the program's doing is answered as `broken`."""
    answer_fd, parent = int(sys.argv[1]), int(sys.argv[2])
    die_with(parent)
    try:
        with_engine = engine()  # it may wait for its job for a while: all that needs no job comes before
        job = json.loads(sys.stdin.readline())
        limit(job)
        answer = run(job, with_engine)
    except MemoryError:
        answer = {"exit_code": -1, "reason": "memory", "detail": "the runner had no memory left", "fuel_used": 0}
    except BaseException as error:  # noqa: BLE001 - the parent must learn of it whatever it is
        answer = {"broken": f"{type(error).__name__}: {error}"[:_DETAIL_MAX]}
    answer["peak_memory_bytes"] = peak_memory(os.getpid())
    os.write(answer_fd, json.dumps(answer).encode())
    os._exit(0)  # nothing to tidy: the parent collects what is left
