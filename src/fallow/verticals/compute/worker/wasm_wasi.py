"""WASI preview1 for one program, deterministic.

The same program, inputs and seed give the same outputs and the same fuel on every machine:

- `random_get`: the k-th call is answered by SHAKE-256 of (seed, k).
- Clocks: all start at 2000-01-01T00:00:00Z (a ZIP file cannot hold an earlier year) and advance by one nanosecond per
  unit of fuel. `poll_oneoff` moves them to the earliest deadline and returns at once: sleeping is free and instant.
- Files: `wasm_files`; a listing is sorted, inode numbers count from one, times are those of the virtual clock.
- No sockets, no signals, no environment but the job's; `args[0]` is `program`.
- Work that the host does is charged: CALL_FUEL a call and one unit a byte, else a loop of calls would be nearly free.

What can still differ between machines: nothing that a program can see, within one version of the engine. Another
version may count fuel differently and another processor may overflow the stack at another depth; `ENGINE` in `wasm`
names what must agree before two results are compared.
"""

from __future__ import annotations

import ctypes
import hashlib
import struct
from ctypes import Array, c_char
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import wasmtime

from fallow.verticals.compute.worker import wasm_files as fs
from fallow.verticals.compute.worker.wasm_files import Stop, Tree, WasiError
from fallow.verticals.compute.worker.wasm_paths import PathCalls

MODULE: Final = "wasi_snapshot_preview1"
# About what a call costs in time: 10 microseconds, when the program itself burns 1 unit a nanosecond.
CALL_FUEL: Final = 10_000
CLOCK_START_NS: Final = 946_684_800 * 10**9
CLOCKS: Final = 4
# Nobody sleeps longer: the clock stays within 64 bits (the year 2116).
_SLEEP_UNTIL_MAX: Final = 1 << 62
_RANDOM_CHUNK: Final = 1 << 20
_EVENTS_MAX: Final = 1024
_CLOCK_EVENT = 0
_ABSOLUTE = 1

# Parameters of each call (i: 32 bits, I: 64 bits); each answers with an errno, but proc_exit with nothing.
CALLS: Final = {
    "args_get": "ii",
    "args_sizes_get": "ii",
    "clock_res_get": "ii",
    "clock_time_get": "iIi",
    "environ_get": "ii",
    "environ_sizes_get": "ii",
    "fd_advise": "iIIi",
    "fd_allocate": "iII",
    "fd_close": "i",
    "fd_datasync": "i",
    "fd_fdstat_get": "ii",
    "fd_fdstat_set_flags": "ii",
    "fd_fdstat_set_rights": "iII",
    "fd_filestat_get": "ii",
    "fd_filestat_set_size": "iI",
    "fd_filestat_set_times": "iIIi",
    "fd_pread": "iiiIi",
    "fd_prestat_dir_name": "iii",
    "fd_prestat_get": "ii",
    "fd_pwrite": "iiiIi",
    "fd_read": "iiii",
    "fd_readdir": "iiiIi",
    "fd_renumber": "ii",
    "fd_seek": "iIii",
    "fd_sync": "i",
    "fd_tell": "ii",
    "fd_write": "iiii",
    "path_create_directory": "iii",
    "path_filestat_get": "iiiii",
    "path_filestat_set_times": "iiiiIIi",
    "path_link": "iiiiiii",
    "path_open": "iiiiiIIii",
    "path_readlink": "iiiiii",
    "path_remove_directory": "iii",
    "path_rename": "iiiiii",
    "path_symlink": "iiiii",
    "path_unlink_file": "iii",
    "poll_oneoff": "iiii",
    "proc_exit": "i",
    "proc_raise": "i",
    "random_get": "ii",
    "sched_yield": "",
    "sock_accept": "iii",
    "sock_recv": "iiiiii",
    "sock_send": "iiiii",
    "sock_shutdown": "ii",
}


class Memory:
    """The program's linear memory; every access is checked against its present size."""

    def __init__(self, store: wasmtime.Store) -> None:
        self._store = store
        self._memory: wasmtime.Memory | None = None
        self._base = 0
        self.size = 0

    @property
    def attached(self) -> bool:
        """Whether the program is there yet."""
        return self._memory is not None

    def attach(self, memory: wasmtime.Memory) -> None:
        """Use `memory` from now on."""
        self._memory = memory
        self.refresh()

    def refresh(self) -> int:
        """Look again where the memory lies and how large it is (the answer); needed after the program ran."""
        if self._memory is None:
            raise Stop("trap", "the program made a call before it was started")
        self.size = self._memory.data_len(self._store)
        self._base = ctypes.addressof(self._memory.data_ptr(self._store).contents) if self.size else 0
        return self.size

    def read(self, pointer: int, size: int) -> bytes:
        """A copy of `size` bytes."""
        return ctypes.string_at(self._at(pointer, size), size)

    def write(self, pointer: int, data: bytes) -> None:
        """Copy `data` there."""
        ctypes.memmove(self._at(pointer, len(data)), data, len(data))

    def view(self, pointer: int, size: int) -> Array[c_char]:
        """`size` bytes in place; valid only until the program runs on."""
        return (c_char * size).from_address(self._at(pointer, size))

    def _at(self, pointer: int, size: int) -> int:
        if pointer + size > self.size:
            raise WasiError(fs.FAULT)
        return self._base + pointer


@dataclass(frozen=True)
class World:
    """What a program may know: bytes of its arguments and environment, its seed, and its fuel."""

    args: tuple[bytes, ...]
    env: tuple[bytes, ...]
    seed: bytes
    fuel_max: int


class Wasi(PathCalls):
    """All calls of one program."""

    def __init__(self, store: wasmtime.Store, world: World, blobs: Path, output_bytes_max: int) -> None:
        self.memory = Memory(store)
        self._store = store
        self._world = world
        self._slept_ns = 0
        self._randoms = 0
        super().__init__(self.memory, Tree(blobs, output_bytes_max, self.now))

    def link(self, linker: wasmtime.Linker) -> None:
        """Define every call in `linker`."""
        i32, i64 = wasmtime.ValType.i32(), wasmtime.ValType.i64()
        for name, letters in CALLS.items():
            results = [] if name == "proc_exit" else [i32]
            kind = wasmtime.FuncType([i32 if letter == "i" else i64 for letter in letters], results)
            func = wasmtime.Func(self._store, kind, self._call(name, letters))
            linker.define(self._store, MODULE, name, func)

    def _call(self, name: str, letters: str) -> Any:  # noqa: ANN401 - wasmtime takes any callable
        method = getattr(self, f"_{name}")
        masks = [0xFFFFFFFF if letter == "i" else 0xFFFFFFFFFFFFFFFF for letter in letters]

        def call(*args: int) -> int:
            self.charge(CALL_FUEL)
            self.memory.refresh()
            try:
                method(*(arg & mask for arg, mask in zip(args, masks, strict=True)))
            except WasiError as error:
                return error.errno
            return fs.SUCCESS

        return call

    def charge(self, fuel: int) -> None:
        """Take fuel for work that the host does; Stop("fuel") when there is not enough."""
        left = self._store.get_fuel()
        self._store.set_fuel(max(0, left - fuel))
        if fuel > left:
            raise Stop("fuel", f"all fuel is used up ({self._world.fuel_max})")

    def fuel_used(self) -> int:
        """Units so far, the host's work included."""
        return self._world.fuel_max - self._store.get_fuel()

    def now(self) -> int:
        """Virtual nanoseconds since 1970."""
        return CLOCK_START_NS + self.fuel_used() + self._slept_ns

    # ------------------------------------------------------------------ arguments, environment

    def _args_sizes_get(self, count: int, size: int) -> None:
        self._put_size(count, len(self._world.args))
        self._put_size(size, sum(len(text) + 1 for text in self._world.args))

    def _args_get(self, pointers: int, texts: int) -> None:
        self._put_texts(self._world.args, pointers, texts)

    def _environ_sizes_get(self, count: int, size: int) -> None:
        self._put_size(count, len(self._world.env))
        self._put_size(size, sum(len(text) + 1 for text in self._world.env))

    def _environ_get(self, pointers: int, texts: int) -> None:
        self._put_texts(self._world.env, pointers, texts)

    def _put_texts(self, values: tuple[bytes, ...], pointers: int, texts: int) -> None:
        for index, value in enumerate(values):
            self._put_size(pointers + 4 * index, texts)
            self.memory.write(texts, value + b"\0")
            texts += len(value) + 1

    # ------------------------------------------------------------------ clocks, chance

    def _clock_res_get(self, clock: int, result: int) -> None:
        self._check_clock(clock)
        self.memory.write(result, struct.pack("<Q", 1))

    def _clock_time_get(self, clock: int, _precision: int, result: int) -> None:
        self._check_clock(clock)
        self.memory.write(result, struct.pack("<Q", self.now()))

    def _check_clock(self, clock: int) -> None:
        if clock >= CLOCKS:
            raise WasiError(fs.INVAL)

    def _random_get(self, pointer: int, size: int) -> None:
        self.charge(size)
        for start in range(0, size, _RANDOM_CHUNK):
            length = min(_RANDOM_CHUNK, size - start)
            stream = hashlib.shake_256(b"fallow wasm random" + self._world.seed + struct.pack("<Q", self._randoms))
            self._randoms += 1
            self.memory.write(pointer + start, stream.digest(length))

    def _poll_oneoff(self, subscriptions: int, events: int, count: int, result: int) -> None:
        if not 0 < count <= _EVENTS_MAX:
            raise WasiError(fs.INVAL)
        now = self.now()
        ready: list[bytes] = []
        sleeps: list[tuple[int, bytes]] = []
        for index in range(count):
            data = self.memory.read(subscriptions + 48 * index, 48)
            user, kind, ident, timeout, flags = struct.unpack("<QBxxxxxxxIxxxxQxxxxxxxxHxxxxxx", data)
            if kind == _CLOCK_EVENT:
                self._check_clock(ident)
                deadline = min(_SLEEP_UNTIL_MAX, timeout if flags & _ABSOLUTE else now + timeout)
                sleeps.append((deadline, struct.pack("<QHBxxxxxQQ", user, 0, kind, 0, 0)))
            else:  # files never make anybody wait
                errno = fs.SUCCESS if ident in self.handles else fs.BADF
                ready.append(struct.pack("<QHBxxxxxQQ", user, errno, kind, 1, 0))
        if not ready and sleeps:
            wake = max(now, min(deadline for deadline, _ in sleeps))
            self._slept_ns += wake - now
            now = wake
        ready += [event for deadline, event in sleeps if deadline <= now]
        self.memory.write(events, b"".join(ready))
        self._put_size(result, len(ready))

    # ------------------------------------------------------------------ the process

    def _proc_exit(self, code: int) -> None:
        raise Stop("exited", "", code)

    def _proc_raise(self, signal: int) -> None:
        raise Stop("trap", f"the program raised signal {signal}")

    def _sched_yield(self) -> None:
        """One thread: nobody to yield to."""

    def _no_socket(self, *_: int) -> None:
        raise WasiError(fs.NOTSOCK)

    _sock_accept = _sock_recv = _sock_send = _sock_shutdown = _no_socket
