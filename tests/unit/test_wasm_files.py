"""The file system that a WASI program sees, driven call by call without an engine."""

from __future__ import annotations

import ctypes
import struct
from pathlib import Path
from typing import Any

import pytest

from fallow.verticals.compute.worker import wasm_files as fs
from fallow.verticals.compute.worker.wasm_calls import Handle
from fallow.verticals.compute.worker.wasm_files import Stop, Tree, WasiError, check_name
from fallow.verticals.compute.worker.wasm_paths import FDS_MAX, PathCalls

CREATE, EXCLUSIVE, TRUNCATE = 1, 4, 8
READ, WRITE = 1 << 1, 1 << 6


class Bytes:
    """A program's memory of 64 KiB."""

    def __init__(self) -> None:
        self.data = (ctypes.c_char * 65536)()

    def read(self, pointer: int, size: int) -> bytes:
        """Copy from it."""
        return self.data.raw[pointer : pointer + size]

    def write(self, pointer: int, data: bytes) -> None:
        """Copy to it."""
        ctypes.memmove(ctypes.addressof(self.data) + pointer, data, len(data))

    def view(self, pointer: int, size: int) -> ctypes.Array[ctypes.c_char]:
        """A part of it in place."""
        return (ctypes.c_char * size).from_buffer(self.data, pointer)


class Program(PathCalls):
    """Makes calls with Python values; folder 3 is /out."""

    def __init__(self, blobs: Path, bytes_max: int = 1000) -> None:
        self.memory = Bytes()
        self.ticks = 0
        super().__init__(self.memory, Tree(blobs, bytes_max, self.now))
        self.out = self.tree.folder(writable=True)
        self.handles[3] = Handle(self.out, preopen=b"/out")

    def charge(self, fuel: int) -> None:
        """Everything is free."""

    def now(self) -> int:
        """Every look at the clock moves it."""
        self.ticks += 1
        return self.ticks

    def do(self, name: str, *args: Any) -> int:
        """Make a call; bytes become a pointer and a size. The 32-bit result at 0."""
        flat: list[int] = []
        at = 1000
        for arg in args:
            if isinstance(arg, bytes):
                self.memory.write(at, arg)
                flat += [at, len(arg)]
                at += len(arg)
            else:
                flat.append(arg)
        getattr(self, f"_{name}")(*flat)
        return int(struct.unpack("<I", self.memory.read(0, 4))[0])

    def open(self, path: bytes, how: int = 0, rights: int = READ, flags: int = 0) -> int:
        """Open a path below /out."""
        return self.do("path_open", 3, 0, path, how, rights, 0, flags, 0)

    def put(self, fd: int, data: bytes) -> None:
        """Write all of `data`."""
        self.memory.write(4000, data)
        self.memory.write(16, struct.pack("<II", 4000, len(data)))
        assert self.do("fd_write", fd, 16, 1, 0) == len(data)

    def get(self, fd: int, size: int = 100) -> bytes:
        """Read up to `size` bytes."""
        self.memory.write(16, struct.pack("<II", 4000, size))
        return self.memory.read(4000, self.do("fd_read", fd, 16, 1, 0))

    def names(self, fd: int = 3, size: int = 60) -> list[bytes]:
        """List a folder through a buffer of `size` bytes, as a C library does it."""
        found: list[bytes] = []
        cookie = 0
        while True:
            used = self.do("fd_readdir", fd, 5000, size, cookie, 0)
            data = self.memory.read(5000, used)
            before = cookie
            while len(data) >= 24:
                after, _, length = struct.unpack_from("<QQI", data)
                if len(data) < 24 + length:
                    break
                found.append(data[24 : 24 + length])
                cookie, data = after, data[24 + length :]
            if used < size or cookie == before:
                return found


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


def fails(errno: int, program: Program, name: str, *args: Any) -> None:
    with pytest.raises(WasiError) as caught:
        program.do(name, *args)
    assert caught.value.errno == errno


def test_write_seek_read_append_truncate(program: Program) -> None:
    fd = program.open(b"a", CREATE, READ | WRITE)
    program.put(fd, b"0123456789")
    program.do("fd_seek", fd, (-3) % (1 << 64), 2, 0)
    assert program.get(fd) == b"789"
    fails(fs.INVAL, program, "fd_seek", fd, (-30) % (1 << 64), 2, 0)
    program.do("fd_filestat_set_size", fd, 4)
    more = program.open(b"./a", 0, WRITE, flags=1)
    program.put(more, b"END")
    program.do("fd_seek", fd, 0, 0, 0)
    assert program.get(fd) == b"0123END"
    assert program.get(fd) == b""
    fails(fs.BADF, program, "fd_read", more, 16, 1, 0)
    fails(fs.EXIST, program, "path_open", 3, 0, b"a", CREATE | EXCLUSIVE, READ, 0, 0, 0)
    program.open(b"a", TRUNCATE, WRITE)
    assert program.tree.bytes_used == 0


def test_bytes_are_counted_while_anything_holds_them(program: Program, tmp_path: Path) -> None:
    fd = program.open(b"a", CREATE, WRITE)
    program.put(fd, b"x" * 900)
    program.do("path_unlink_file", 3, b"a")
    other = program.open(b"b", CREATE, WRITE)
    with pytest.raises(Stop) as caught:
        program.put(other, b"x" * 101)
    assert caught.value.reason == "output"
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == 900
    program.do("fd_close", fd)
    program.put(other, b"x" * 1000)
    assert (program.tree.bytes_used, program.tree.nodes) == (1000, 1)
    assert len(list(tmp_path.iterdir())) == 1


def test_there_is_an_end_to_names_and_descriptors(program: Program) -> None:
    for index in range(FDS_MAX - 1):
        program.open(b"f%d" % index, CREATE, WRITE)
    fails(fs.MFILE, program, "path_open", 3, 0, b"more", CREATE, WRITE, 0, 0, 0)
    for index in range(fs.NODES_MAX - program.tree.nodes):
        program.do("path_create_directory", 3, b"d%d" % index)
    with pytest.raises(Stop):
        program.do("path_create_directory", 3, b"one more")


def test_listing_is_sorted_and_survives_deletion(program: Program) -> None:
    for name in (b"zz", b"a", b"\xc3\xa4", b"B", b"m" * 30):
        program.do("fd_close", program.open(name, CREATE, WRITE))
    listed = program.names()
    assert listed == [b".", b"..", b"B", b"a", b"m" * 30, b"zz", b"\xc3\xa4"]
    cookie = 0
    for _ in listed:
        program.do("fd_readdir", 3, 5000, 60, cookie, 0)
        cookie, _, size = struct.unpack("<QQI", program.memory.read(5000, 20))
        name = program.memory.read(5024, size)
        if not name.startswith(b"."):
            program.do("path_unlink_file", 3, name)
    assert program.names() == [b".", b".."]


def test_rename(program: Program) -> None:
    for folder in (b"one", b"one/two", b"empty"):
        program.do("path_create_directory", 3, folder)
    fd = program.open(b"one/file", CREATE, WRITE)
    program.put(fd, b"kept")
    program.do("fd_close", program.open(b"other", CREATE, WRITE))
    program.do("path_rename", 3, b"one/file", 3, b"other")
    assert program.get(program.open(b"other")) == b"kept"
    fails(fs.INVAL, program, "path_rename", 3, b"one", 3, b"one/two/three")
    fails(fs.ISDIR, program, "path_rename", 3, b"other", 3, b"one")
    fails(fs.NOTDIR, program, "path_rename", 3, b"one", 3, b"other")
    fails(fs.NOTEMPTY, program, "path_rename", 3, b"empty", 3, b"one")
    program.do("path_rename", 3, b"one", 3, b"empty")
    assert program.names() == [b".", b"..", b"empty", b"other"]
    fails(fs.NOTEMPTY, program, "path_remove_directory", 3, b"empty")
    fails(fs.ISDIR, program, "path_unlink_file", 3, b"empty")
    fails(fs.NOTDIR, program, "path_remove_directory", 3, b"other")
    fails(fs.NOENT, program, "path_rename", 3, b"nothing", 3, b"x")


def test_a_removed_folder_grows_no_more(program: Program) -> None:
    program.do("path_create_directory", 3, b"d")
    folder = program.open(b"d", 2)
    program.do("path_remove_directory", 3, b"d")
    fails(fs.ROFS, program, "path_create_directory", folder, b"x")
    fails(fs.NOTCAPABLE, program, "path_create_directory", folder, b"../x")


def test_descriptors_move(program: Program) -> None:
    first, second = (program.open(name, CREATE, READ | WRITE) for name in (b"a", b"b"))
    program.do("fd_renumber", first, second)
    program.put(second, b"to a")
    assert program.get(program.open(b"a")) == b"to a"
    fails(fs.BADF, program, "fd_close", 99)
    fails(fs.ISDIR, program, "fd_read", 3, 16, 1, 0)


@pytest.mark.parametrize(
    ("name", "errno"),
    [(b"", fs.INVAL), (b"x" * 256, fs.NAMETOOLONG), (b"\xff", fs.ILSEQ), (b"a\n", fs.ILSEQ), (b"a\0", fs.ILSEQ)],
)
def test_odd_names_are_refused(name: bytes, errno: int) -> None:
    with pytest.raises(WasiError) as caught:
        check_name(name)
    assert caught.value.errno == errno


def test_saving_gives_names_and_loading_takes_them(program: Program, tmp_path: Path) -> None:
    program.do("path_create_directory", 3, b"d")
    program.put(program.open(b"d/\xc3\xa4", CREATE, WRITE), b"1")
    target = tmp_path / "saved"
    target.mkdir()
    program.tree.save(program.out, target)
    assert (target / "d" / "\u00e4").read_bytes() == b"1"
    (target / "link").symlink_to("/etc")
    program.handles[3] = Handle(program.tree.load(target))
    assert program.names() == [b".", b"..", b"d"]
    assert program.get(program.open(b"d/../d//\xc3\xa4")) == b"1"
    fails(fs.ROFS, program, "path_unlink_file", 3, b"d/\xc3\xa4")
