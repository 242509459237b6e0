"""The file system that a WASI program sees: a tree that exists only in this process.

Nothing that a program names ever reaches the host's file system, so there is nothing to escape from, and nothing of
the host (inode numbers, times, order of names, file system limits) can leak in and make two machines differ. File
contents lie in host files with numbers for names ("blobs"); the tree gets its real names when the program has ended.

There are folders and regular files, no links. Names are UTF-8 without control characters, at most 255 bytes.
Runs in the child process: standard library only.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

SUCCESS: Final = 0
BADF: Final = 8
EXIST: Final = 20
FAULT: Final = 21
ILSEQ: Final = 25
INVAL: Final = 28
ISDIR: Final = 31
MFILE: Final = 33
NAMETOOLONG: Final = 37
NOENT: Final = 44
NOTDIR: Final = 54
NOTEMPTY: Final = 55
NOTSUP: Final = 58
NOTSOCK: Final = 57
ROFS: Final = 69
SPIPE: Final = 70
NOTCAPABLE: Final = 76

# Below the workspace: where contents lie while the program runs.
BLOBS: Final = ".blobs"
NAME_BYTES_MAX: Final = 255
PATH_BYTES_MAX: Final = 1024
# Folders and files that a program may have at a time: each costs the host an inode.
NODES_MAX: Final = 4096
_CONTROLS: Final = frozenset([*range(32), 127])


class WasiError(Exception):
    """A call fails and the program learns why: `errno` is WASI's number."""

    def __init__(self, errno: int) -> None:
        super().__init__(errno)
        self.errno = errno


class Stop(Exception):
    """The program ends here. `reason` is one of the reasons of an outcome."""

    def __init__(self, reason: str, detail: str, exit_code: int = -1) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.exit_code = exit_code


@dataclass(eq=False, slots=True)
class Folder:
    """A folder; `writable` also says whether its files may be written."""

    inode: int
    writable: bool
    mtime: int
    children: dict[bytes, Folder | File] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class File:
    """A file whose bytes lie in the host file `path`; it lives while it has a name or is open.

    Each write makes its `version` another one.
    """

    inode: int
    writable: bool
    mtime: int
    path: Path
    size: int = 0
    named: bool = True
    opens: int = 0
    version: int = 0


Node = Folder | File


class Tree:
    """All files of one program, with what it wrote counted.

    `bytes_max` bounds the sum of the sizes of all live files that the program wrote, stdout and stderr included;
    going over it raises Stop("output") at the same point on every machine.
    """

    def __init__(self, blobs: Path, bytes_max: int, now: Callable[[], int]) -> None:
        self._blobs = blobs
        self._bytes_max = bytes_max
        self._now = now
        self._inodes = 0
        self.bytes_used = 0
        self.nodes = 0

    def folder(self, *, writable: bool) -> Folder:
        """A new folder without a name."""
        return Folder(self._inode(), writable, self._now())

    def file(self, path: Path, *, writable: bool) -> File:
        """A file on the host that is there already or will be (its size is read when it exists)."""
        size = path.stat().st_size if path.exists() else 0
        return File(self._inode(), writable, self._now(), path, size)

    def load(self, path: Path) -> Folder:
        """The regular files and folders below the host folder `path`, read-only; links and devices are left out."""
        folder = self.folder(writable=False)
        for entry in sorted(path.iterdir(), key=lambda entry: os.fsencode(entry.name)):
            mode = entry.lstat().st_mode
            if stat.S_ISDIR(mode):
                folder.children[os.fsencode(entry.name)] = self.load(entry)
            elif stat.S_ISREG(mode):
                folder.children[os.fsencode(entry.name)] = self.file(entry, writable=False)
        return folder

    def save(self, folder: Folder, path: Path, depth_bytes: int = 0) -> None:
        """Give every file below `folder` its name below the host folder `path`, which exists and is empty."""
        for name, node in sorted(folder.children.items()):
            length = depth_bytes + len(name) + 1
            if length > PATH_BYTES_MAX:
                raise Stop("output", f"a path in /out is longer than {PATH_BYTES_MAX} bytes")
            target = path / os.fsdecode(name)
            if isinstance(node, Folder):
                target.mkdir()
                self.save(node, target, length)
            else:
                node.path.rename(target)

    def find(self, base: Folder, path: bytes) -> tuple[Folder, bytes, Node | None]:
        """Follow `path` from `base`: the last folder, the last name (empty: the folder itself), what it names or None.

        Nothing above `base` can be reached: NOTCAPABLE.
        """
        if not path or len(path) > PATH_BYTES_MAX:
            raise WasiError(NAMETOOLONG if path else NOENT)
        if path.startswith(b"/"):
            raise WasiError(NOTCAPABLE)
        parts = [part for part in path.split(b"/") if part not in {b"", b"."}]
        trail: list[Folder] = [base]
        for part in parts[:-1]:
            self._step(trail, part)
        last = parts[-1] if parts else b"."
        if last == b"..":
            self._step(trail, last)
        if last in {b".", b".."}:
            return trail[-1], b"", trail[-1]
        node = trail[-1].children.get(last)
        if isinstance(node, File) and path.endswith(b"/"):
            raise WasiError(NOTDIR)
        return trail[-1], last, node

    def _step(self, trail: list[Folder], part: bytes) -> None:
        """Go one name further, where `trail` is the way from the base to here."""
        if part == b"..":
            trail.pop()
            if not trail:
                raise WasiError(NOTCAPABLE)
            return
        node = trail[-1].children.get(part)
        if not isinstance(node, Folder):
            raise WasiError(NOENT if node is None else NOTDIR)
        trail.append(node)

    def add_file(self, folder: Folder, name: bytes) -> File:
        """A new empty file in `folder`; its blob is created when it is opened."""
        self._check_new(folder, name)
        inode = self._inode()
        node = File(inode, writable=True, mtime=self._now(), path=self._blobs / str(inode))
        folder.children[name] = node
        folder.mtime = node.mtime
        return node

    def add_folder(self, folder: Folder, name: bytes) -> None:
        """A new empty folder in `folder`."""
        self._check_new(folder, name)
        folder.children[name] = self.folder(writable=True)
        folder.mtime = self._now()

    def remove(self, folder: Folder, name: bytes, node: Node) -> None:
        """Take the name away; what has neither name nor open handle is gone. Folders must be empty."""
        if not folder.writable:
            raise WasiError(ROFS)
        if isinstance(node, Folder):
            if node.children:
                raise WasiError(NOTEMPTY)
            node.writable = False  # it may still be open, and must not grow children that nobody counts
            self.nodes -= 1
        else:
            node.named = False
            self.release(node)
        del folder.children[name]
        folder.mtime = self._now()

    def move(self, source: tuple[Folder, bytes], node: Node, target: tuple[Folder, bytes]) -> None:
        """Rename, replacing a file by a file or an empty folder by a folder, as POSIX does."""
        (old_folder, old_name), (new_folder, new_name) = source, target
        if not old_folder.writable or not new_folder.writable:
            raise WasiError(ROFS)
        check_name(new_name)
        there = new_folder.children.get(new_name)
        if there is node:
            return
        if isinstance(node, Folder) and _holds(node, new_folder):
            raise WasiError(INVAL)
        if there is not None:
            if isinstance(node, Folder) != isinstance(there, Folder):
                raise WasiError(NOTDIR if isinstance(node, Folder) else ISDIR)
            self.remove(new_folder, new_name, there)
        del old_folder.children[old_name]
        new_folder.children[new_name] = node
        old_folder.mtime = new_folder.mtime = self._now()

    def release(self, node: File) -> None:
        """Forget a file that has lost its name and its last handle, and give its bytes back."""
        if node.named or node.opens:
            return
        self.bytes_used -= node.size
        self.nodes -= 1
        node.path.unlink(missing_ok=True)

    def resize(self, node: File, size: int) -> None:
        """Note that `node` now has `size` bytes; before they are written, so that the host never holds more."""
        used = self.bytes_used + size - node.size
        if used > self._bytes_max:
            raise Stop("output", f"the program wrote more than {self._bytes_max} bytes")
        self.bytes_used = used
        node.size = size
        node.version += 1
        node.mtime = self._now()

    def _check_new(self, folder: Folder, name: bytes) -> None:
        if not folder.writable:
            raise WasiError(ROFS)
        check_name(name)
        if self.nodes >= NODES_MAX:
            raise Stop("output", f"the program has more than {NODES_MAX} files and folders")
        self.nodes += 1

    def _inode(self) -> int:
        self._inodes += 1
        return self._inodes


def check_name(name: bytes) -> None:
    """Refuse a name that could not be shown or stored everywhere."""
    if not name:
        raise WasiError(INVAL)
    if len(name) > NAME_BYTES_MAX:
        raise WasiError(NAMETOOLONG)
    try:
        name.decode()
    except UnicodeDecodeError:
        raise WasiError(ILSEQ) from None
    if not _CONTROLS.isdisjoint(name):
        raise WasiError(ILSEQ)


def _holds(folder: Folder, other: Folder) -> bool:
    if folder is other:
        return True
    return any(_holds(node, other) for node in folder.children.values() if isinstance(node, Folder))


def peak_memory(pid: int) -> int:
    """The most physical memory that process `pid` ever held, in bytes; 0 when it is gone.

    Not from getrusage: that counts what the parent held when it started the process.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        peaks = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    except OSError:
        return 0
    return int(peaks[0].split()[1]) * 1024 if peaks else 0
