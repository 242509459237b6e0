"""The folder /checkpoint of a WASI program: the host has a copy, which the agent saves while the program runs.

The program works on its tree; the copy is brought up to date when it closes, syncs, renames or removes something, so
that it holds what a program may count on. Runs in the child process: standard library only.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fallow.verticals.compute.worker.wasm_files import NODES_MAX, File, Folder, Tree, WasiError, check_name

FOLDER: Final = "checkpoint"
FILE_FUEL: Final = 1000
"""What a look at one file costs, whether it has changed or not."""

State = tuple[int, int]
"""Inode and version: another one means other bytes."""


def could_be_kept(folder: Path, bytes_max: int) -> bool:
    """Whether a program within its limits could have left the folder like that: what was saved is a node's word."""
    entries = list(folder.rglob("*"))
    files = [entry for entry in entries if entry.is_file()]
    fits = len(entries) <= NODES_MAX and sum(file.stat().st_size for file in files) <= bytes_max
    return fits and all(_is_name(os.fsencode(entry.name)) for entry in entries)


class Kept:
    """A program's /checkpoint (`root`), and its copy in the host folder `copy`, from which it is filled at first."""

    def __init__(self, tree: Tree, copy: Path, scratch: Path) -> None:
        self.root = tree.folder(writable=True)
        self._copy = copy
        self._part = scratch / "kept"
        _fill(tree, self.root, copy)
        self._copied = {path: _state(file) for path, file in _files(self.root, b"")}

    def keep(self) -> int:
        """Bring the copy up to date; returns the fuel that this costs: a unit a byte, and `FILE_FUEL` a file."""
        files = dict(_files(self.root, b""))
        for path in self._copied.keys() - files.keys():
            self._at(path).unlink(missing_ok=True)
            del self._copied[path]
        fuel = FILE_FUEL * len(files)
        for path, file in files.items():
            if self._copied.get(path) != _state(file):
                self._write(self._at(path), file)
                self._copied[path] = _state(file)
                fuel += file.size
        return fuel

    def _write(self, target: Path, file: File) -> None:
        """Replace the copy of one file as a whole: whoever reads meanwhile sees the old one or the new one."""
        if target.is_dir():  # empty of files by now: they went before
            shutil.rmtree(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file.path, self._part)
        self._part.replace(target)

    def _at(self, path: bytes) -> Path:
        return self._copy / os.fsdecode(path)


def _fill(tree: Tree, folder: Folder, path: Path) -> None:
    """Copy regular files and folders below the host folder `path`."""
    for entry in sorted(path.iterdir(), key=lambda entry: os.fsencode(entry.name)):
        name, mode = os.fsencode(entry.name), entry.lstat().st_mode
        if stat.S_ISDIR(mode):
            tree.add_folder(folder, name)
        elif stat.S_ISREG(mode):
            tree.resize(tree.add_file(folder, name), entry.stat().st_size)
        node = folder.children.get(name)
        if isinstance(node, Folder):
            _fill(tree, node, entry)
        elif node is not None:
            shutil.copyfile(entry, node.path)


def _is_name(name: bytes) -> bool:
    try:
        check_name(name)
    except WasiError:
        return False
    return True


def _files(folder: Folder, path: bytes) -> Iterator[tuple[bytes, File]]:
    for name, node in folder.children.items():
        if isinstance(node, Folder):
            yield from _files(node, path + name + b"/")
        else:
            yield path + name, node


def _state(file: File) -> State:
    return file.inode, file.version
