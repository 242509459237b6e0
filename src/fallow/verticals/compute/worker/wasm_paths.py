"""WASI preview1's calls on names (`path_*`), on the tree of `wasm_files`.

There are no links: making one is NOTSUP, reading one is INVAL. Runs in the child process.
"""

from __future__ import annotations

import os
from typing import Final

from fallow.verticals.compute.worker import wasm_files as fs
from fallow.verticals.compute.worker.wasm_calls import RIGHTS_READ, RIGHTS_WRITE, FileCalls, Handle
from fallow.verticals.compute.worker.wasm_files import File, Folder, WasiError

FDS_MAX: Final = 128
_CREATE, _DIRECTORY, _EXCLUSIVE, _TRUNCATE = 1, 2, 4, 8


class PathCalls(FileCalls):
    """The calls on names below an open folder."""

    def _find(self, fd: int, path: int, size: int) -> tuple[Folder, bytes, Folder | File | None]:
        handle = self._handle(fd)
        if isinstance(handle.node, File):
            raise WasiError(fs.NOTDIR)
        return self.tree.find(handle.node, self._path(path, size))

    def _path(self, path: int, size: int) -> bytes:
        if size > fs.PATH_BYTES_MAX:
            raise WasiError(fs.NAMETOOLONG)
        return self.guest.read(path, size)

    def _path_open(
        self, fd: int, _look: int, path: int, size: int, how: int, rights: int, _heirs: int, flags: int, result: int
    ) -> None:
        folder, name, node = self._find(fd, path, size)
        if len(self.handles) >= FDS_MAX:
            raise WasiError(fs.MFILE)
        if node is None:
            if not how & _CREATE:
                raise WasiError(fs.NOENT)
            if how & _DIRECTORY:
                raise WasiError(fs.INVAL)
            node = self.tree.add_file(folder, name)
        elif how & _CREATE and how & _EXCLUSIVE:
            raise WasiError(fs.EXIST)
        writable = bool(rights & RIGHTS_WRITE or how & _TRUNCATE)
        if isinstance(node, Folder):
            if how & _CREATE or (writable and not how & _DIRECTORY):
                raise WasiError(fs.ISDIR)
            handle = Handle(node)
        else:
            handle = self._open(node, how, readable=bool(rights & RIGHTS_READ), writable=writable)
        handle.flags = flags & 0x1F
        number = next(number for number in range(FDS_MAX) if number not in self.handles)
        self.handles[number] = handle
        self._put_size(result, number)

    def _open(self, node: File, how: int, *, readable: bool, writable: bool) -> Handle:
        if how & _DIRECTORY:
            raise WasiError(fs.NOTDIR)
        if writable and not node.writable:
            raise WasiError(fs.ROFS)
        handle = self.open_host(node, readable=readable, writable=writable)
        if how & _TRUNCATE:
            self.tree.resize(node, 0)
            os.ftruncate(handle.host, 0)
        return handle

    def _path_create_directory(self, fd: int, path: int, size: int) -> None:
        folder, name, node = self._find(fd, path, size)
        if node is not None:
            raise WasiError(fs.EXIST)
        self.tree.add_folder(folder, name)

    def _path_remove_directory(self, fd: int, path: int, size: int) -> None:
        folder, name, node = self._find(fd, path, size)
        if isinstance(node, File):
            raise WasiError(fs.NOTDIR)
        self._remove(folder, name, node)

    def _path_unlink_file(self, fd: int, path: int, size: int) -> None:
        folder, name, node = self._find(fd, path, size)
        if isinstance(node, Folder):
            raise WasiError(fs.ISDIR)
        self._remove(folder, name, node)

    def _remove(self, folder: Folder, name: bytes, node: Folder | File | None) -> None:
        if node is None:
            raise WasiError(fs.NOENT)
        if not name:
            raise WasiError(fs.INVAL)
        self.tree.remove(folder, name, node)
        self.settled()

    def _path_rename(self, fd: int, path: int, size: int, to_fd: int, to_path: int, to_size: int) -> None:
        folder, name, node = self._find(fd, path, size)
        to_folder, to_name, _ = self._find(to_fd, to_path, to_size)
        if node is None:
            raise WasiError(fs.NOENT)
        if not name or not to_name:
            raise WasiError(fs.INVAL)
        self.tree.move((folder, name), node, (to_folder, to_name))
        self.settled()

    def _path_filestat_get(self, fd: int, _look: int, path: int, size: int, result: int) -> None:
        _, _, node = self._find(fd, path, size)
        if node is None:
            raise WasiError(fs.NOENT)
        self._put_stat(result, node)

    def _path_filestat_set_times(
        self, fd: int, _look: int, path: int, size: int, _atime: int, mtime: int, flags: int
    ) -> None:
        _, _, node = self._find(fd, path, size)
        if node is None:
            raise WasiError(fs.NOENT)
        self._set_mtime(node, mtime, flags)

    def _path_readlink(self, fd: int, path: int, size: int, _buffer: int, _buffer_size: int, _result: int) -> None:
        _, _, node = self._find(fd, path, size)
        raise WasiError(fs.NOENT if node is None else fs.INVAL)

    def _path_link(self, *_: int) -> None:
        raise WasiError(fs.NOTSUP)

    _path_symlink = _path_link
