"""WASI preview1's calls on open files and folders (`fd_*`), on the tree of `wasm_files`.

Pointers and lengths come as unsigned integers; a call that fails raises WasiError. Runs in the child process.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from ctypes import Array, c_char
from dataclasses import dataclass
from typing import Final, Protocol

from fallow.verticals.compute.worker import wasm_files as fs
from fallow.verticals.compute.worker.wasm_files import File, Folder, Tree, WasiError

VECTORS_MAX: Final = 1024
# WASI's numbers.
FOLDER_TYPE: Final = 3
FILE_TYPE: Final = 4
_APPEND: Final = 1
_RIGHTS_ALL: Final = (1 << 30) - 1
RIGHTS_WRITE: Final = 1 << 6
RIGHTS_READ: Final = 1 << 1
_RIGHTS_SEEK: Final = 1 << 2 | 1 << 5
_RIGHTS_WRITING: Final = RIGHTS_WRITE | 1 << 8 | 1 << 22  # write, allocate, set size
_SET_MTIME, _SET_MTIME_NOW = 4, 8


class Guest(Protocol):
    """The program's memory, checked: everything outside it is FAULT."""

    def read(self, pointer: int, size: int) -> bytes:
        """A copy of `size` bytes."""

    def write(self, pointer: int, data: bytes) -> None:
        """Copy `data` there."""

    def view(self, pointer: int, size: int) -> Array[c_char]:
        """`size` bytes in place; valid only until the program runs on."""


@dataclass(eq=False, slots=True)
class Handle:
    """An open file or folder. `preopen` is the name under which the program finds a folder that it starts with."""

    node: Folder | File
    host: int = -1
    position: int = 0
    flags: int = 0
    readable: bool = False
    writable: bool = False
    seekable: bool = True
    preopen: bytes | None = None
    listing: tuple[tuple[bytes, int, int], ...] = ()


class FileCalls:
    """The calls on files; `handles` maps the program's numbers to what they stand for."""

    def __init__(self, guest: Guest, tree: Tree) -> None:
        self.guest = guest
        self.tree = tree
        self.handles: dict[int, Handle] = {}
        self.keep: Callable[[], int] | None = None

    # ------------------------------------------------------------------ what the calls share

    def charge(self, fuel: int) -> None:
        """Take fuel for work that the host does."""
        raise NotImplementedError

    def now(self) -> int:
        """Virtual nanoseconds since 1970."""
        raise NotImplementedError

    def settled(self) -> None:
        """The program may count on what it has written so far: have it kept, where something is kept at all."""
        if self.keep is not None:
            self.charge(self.keep())

    def open_host(self, node: File, *, readable: bool, writable: bool, seekable: bool = True) -> Handle:
        """Open the host file behind `node`."""
        mode = (os.O_RDWR | os.O_CREAT) if node.writable else os.O_RDONLY
        host = os.open(node.path, mode | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        node.opens += 1
        return Handle(node, host, readable=readable, writable=writable, seekable=seekable)

    def _handle(self, fd: int) -> Handle:
        handle = self.handles.get(fd)
        if handle is None:
            raise WasiError(fs.BADF)
        return handle

    def _file(self, fd: int) -> tuple[Handle, File]:
        handle = self._handle(fd)
        if isinstance(handle.node, Folder):
            raise WasiError(fs.ISDIR)
        return handle, handle.node

    def _readable(self, fd: int) -> Handle:
        handle, _ = self._file(fd)
        if not handle.readable:
            raise WasiError(fs.BADF)
        return handle

    def _writable(self, fd: int) -> tuple[Handle, File]:
        handle, node = self._file(fd)
        if not handle.writable:
            raise WasiError(fs.BADF)
        return handle, node

    def _seekable(self, fd: int) -> tuple[Handle, File]:
        handle, node = self._file(fd)
        if not handle.seekable:
            raise WasiError(fs.SPIPE)
        return handle, node

    def _vectors(self, vectors: int, count: int) -> Iterator[Array[c_char]]:
        if count > VECTORS_MAX:
            raise WasiError(fs.INVAL)
        for pointer, size in struct.iter_unpack("<II", self.guest.read(vectors, count * 8)):
            if size:
                yield self.guest.view(pointer, size)

    def _put_size(self, pointer: int, value: int) -> None:
        self.guest.write(pointer, struct.pack("<I", value))

    def _read(self, handle: Handle, vectors: int, count: int, position: int) -> int:
        buffers = list(self._vectors(vectors, count))
        done = os.preadv(handle.host, buffers, position) if buffers and position < 1 << 63 else 0
        self.charge(done)
        return done

    def _write(self, handle: Handle, node: File, vectors: int, count: int, position: int) -> int:
        buffers = list(self._vectors(vectors, count))
        total = sum(map(len, buffers))
        if not total:
            return 0
        self.charge(total)
        if position + total > node.size:
            self.tree.resize(node, position + total)
        node.version += 1
        node.mtime = self.now()
        done = 0
        for buffer in buffers:
            view = memoryview(buffer).cast("B")
            while view:  # the host may take less at a time; the program must not see that
                taken = os.pwrite(handle.host, view, position + done)
                done += taken
                view = view[taken:]
        return total

    # ------------------------------------------------------------------ open files

    def _fd_read(self, fd: int, vectors: int, count: int, result: int) -> None:
        handle = self._readable(fd)
        done = self._read(handle, vectors, count, handle.position)
        handle.position += done
        self._put_size(result, done)

    def _fd_pread(self, fd: int, vectors: int, count: int, position: int, result: int) -> None:
        self._seekable(fd)
        self._put_size(result, self._read(self._readable(fd), vectors, count, position))

    def _fd_write(self, fd: int, vectors: int, count: int, result: int) -> None:
        handle, node = self._writable(fd)
        position = node.size if handle.flags & _APPEND else handle.position
        done = self._write(handle, node, vectors, count, position)
        handle.position = position + done
        self._put_size(result, done)

    def _fd_pwrite(self, fd: int, vectors: int, count: int, position: int, result: int) -> None:
        self._seekable(fd)
        handle, node = self._writable(fd)
        self._put_size(result, self._write(handle, node, vectors, count, position))

    def _fd_seek(self, fd: int, offset: int, whence: int, result: int) -> None:
        handle, node = self._seekable(fd)
        bases = (0, handle.position, node.size)
        if whence >= len(bases):
            raise WasiError(fs.INVAL)
        position = bases[whence] + (offset - (1 << 64) if offset >> 63 else offset)
        if not 0 <= position < 1 << 62:
            raise WasiError(fs.INVAL)
        handle.position = position
        self.guest.write(result, struct.pack("<Q", position))

    def _fd_tell(self, fd: int, result: int) -> None:
        handle, _ = self._seekable(fd)
        self.guest.write(result, struct.pack("<Q", handle.position))

    def _fd_close(self, fd: int) -> None:
        handle = self._handle(fd)
        del self.handles[fd]
        if isinstance(handle.node, File):
            if handle.host >= 0:
                os.close(handle.host)
            handle.node.opens -= 1
            self.tree.release(handle.node)
            if handle.writable:
                self.settled()

    def _fd_renumber(self, fd: int, to: int) -> None:
        handle = self._handle(fd)
        self._handle(to)
        if fd != to:
            self._fd_close(to)
            self.handles[to] = handle
            del self.handles[fd]

    def _fd_sync(self, fd: int) -> None:
        self._handle(fd)  # durability is the provider's business: the outputs are hashed after the end
        self.settled()

    _fd_datasync = _fd_sync

    def _fd_advise(self, fd: int, _offset: int, _size: int, _advice: int) -> None:
        self._handle(fd)

    def _fd_allocate(self, fd: int, _offset: int, _size: int) -> None:
        self._handle(fd)
        raise WasiError(fs.NOTSUP)

    def _fd_fdstat_get(self, fd: int, result: int) -> None:
        handle = self._handle(fd)
        if isinstance(handle.node, Folder):
            kind, rights = FOLDER_TYPE, _RIGHTS_ALL & ~(RIGHTS_READ | RIGHTS_WRITE | _RIGHTS_SEEK)
        else:
            kind, rights = FILE_TYPE, _RIGHTS_ALL & ~(RIGHTS_READ | _RIGHTS_WRITING | _RIGHTS_SEEK)
            rights |= RIGHTS_READ if handle.readable else 0
            rights |= _RIGHTS_WRITING if handle.writable else 0
            rights |= _RIGHTS_SEEK if handle.seekable else 0
        self.guest.write(result, struct.pack("<BxHxxxxQQ", kind, handle.flags, rights, _RIGHTS_ALL))

    def _fd_fdstat_set_flags(self, fd: int, flags: int) -> None:
        self._handle(fd).flags = flags & 0x1F

    def _fd_fdstat_set_rights(self, fd: int, _base: int, _inheriting: int) -> None:
        self._handle(fd)  # rights were dropped from the standard; every runtime ignores the call

    def _fd_filestat_get(self, fd: int, result: int) -> None:
        self._put_stat(result, self._handle(fd).node)

    def _fd_filestat_set_size(self, fd: int, size: int) -> None:
        handle, node = self._writable(fd)
        if size >= 1 << 62:
            raise WasiError(fs.INVAL)
        self.tree.resize(node, size)
        os.ftruncate(handle.host, size)

    def _fd_filestat_set_times(self, fd: int, _atime: int, mtime: int, flags: int) -> None:
        self._set_mtime(self._handle(fd).node, mtime, flags)

    def _fd_prestat_get(self, fd: int, result: int) -> None:
        self.guest.write(result, struct.pack("<BxxxI", 0, len(self._preopen(fd))))

    def _fd_prestat_dir_name(self, fd: int, path: int, size: int) -> None:
        name = self._preopen(fd)
        if size < len(name):
            raise WasiError(fs.NAMETOOLONG)
        self.guest.write(path, name)

    def _fd_readdir(self, fd: int, buffer: int, size: int, cookie: int, result: int) -> None:
        handle = self._handle(fd)
        node = handle.node
        if isinstance(node, File):
            raise WasiError(fs.NOTDIR)
        if cookie == 0:  # a snapshot, so that a program that deletes what it lists misses nothing
            names = [
                (name, child.inode, FOLDER_TYPE if isinstance(child, Folder) else FILE_TYPE)
                for name, child in sorted(node.children.items())
            ]
            handle.listing = ((b".", node.inode, FOLDER_TYPE), (b"..", 0, FOLDER_TYPE), *names)
        listed = bytearray()
        for index in range(min(cookie, len(handle.listing)), len(handle.listing)):
            name, inode, kind = handle.listing[index]
            listed += struct.pack("<QQIBxxx", index + 1, inode, len(name), kind) + name
            if len(listed) >= size:
                break
        data = bytes(listed[:size])
        self.charge(len(data))
        self.guest.write(buffer, data)
        self._put_size(result, len(data))

    # ------------------------------------------------------------------ answers

    def _preopen(self, fd: int) -> bytes:
        name = self._handle(fd).preopen
        if name is None:
            raise WasiError(fs.BADF)
        return name

    def _put_stat(self, result: int, node: Folder | File) -> None:
        size, kind = (0, FOLDER_TYPE) if isinstance(node, Folder) else (node.size, FILE_TYPE)
        times = (node.mtime, node.mtime, node.mtime)
        self.guest.write(result, struct.pack("<QQBxxxxxxxQQQQQ", 1, node.inode, kind, 1, size, *times))

    def _set_mtime(self, node: Folder | File, mtime: int, flags: int) -> None:
        if not node.writable:
            raise WasiError(fs.ROFS)
        if flags & _SET_MTIME_NOW:
            node.mtime = self.now()
        elif flags & _SET_MTIME:
            node.mtime = mtime
