"""The folder that an owner lends: it is this node's own, or nothing is put there and nothing removed. Blocking.

A mark in it says whose it is, and a note among what the agent keeps says that it was marked: a folder without its mark
is one whose disk is not there, and pieces put below its mount point would fill another disk and hide the loss.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from fallow.domain.errors import Conflict, InvalidInput, NotAllowed, Unavailable
from fallow.ports.files import sync
from fallow.verticals.storage.core.lending import Lending, size_text
from fallow.verticals.storage.worker.index import FILES, LOGS

MARK: Final = "fallow-storage"
NOTE: Final = "folders"
FRESH: Final = ".new"
PASSED_OVER: Final = frozenset({"lost+found", MARK + FRESH})
"""What a file system puts at its own root, and a mark that a full disk or a crash kept from being made."""


class Folder:
    """The one at `path`, for a node of a network. `kept` is where the agent keeps what must not be lost."""

    def __init__(self, path: Path, kept: Path, *, net: str, node: bytes) -> None:
        self.path = path
        self._mark = path / MARK
        self._note = kept / NOTE
        self._says = f"{net}\n{node.hex()}\n".encode()

    def claim(self) -> None:
        """Make it, if it is not there, and mark it as this node's.

        Raises:
            NotAllowed: it is another user's, or others may change it (`storage.folder`).
            Conflict: it is another node's, or there are other things in it (`storage.folder`).
            Unavailable: it was this node's and is not there now (`storage.folder_gone`), or cannot be used.
        """
        try:
            self._claim()
        except OSError as error:
            raise Unavailable("storage.folder", f"{self.path} cannot be used: {error.strerror or error}.") from error

    def erase(self) -> None:
        """Remove what is this node's there, and the folder, if it is empty then; another's is not touched.

        Raises:
            Unavailable: something cannot be removed.
        """
        try:
            if not self._is_marked() or self._mark.read_bytes() != self._says:
                return
            for path in [*self.path.glob(LOGS), *(self.path / name for name in FILES), self._mark]:
                path.unlink(missing_ok=True)
            self._note.unlink(missing_ok=True)
            if not any(self.path.iterdir()):
                self.path.rmdir()
        except OSError as error:
            raise Unavailable("storage.folder", f"{self.path} cannot be emptied: {error.strerror or error}.") from error

    def _claim(self) -> None:
        if not self._is_marked() and str(self.path) in self._noted():
            raise Unavailable(
                "storage.folder_gone",
                f"{self.path} has lost what marked it as this node's.",
                "Is its disk mounted? If the pieces are lost for good: lend another folder.",
            )
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_ours(self.path)
        if self._is_marked():
            if self._mark.read_bytes() != self._says:
                raise Conflict("storage.folder", f"{self.path} holds pieces of another node.", "Lend another folder.")
        else:
            check_empty(self.path)
            write_whole(self._mark, self._says)
        if str(self.path) not in self._noted():
            self._note.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(self._note, "".join(f"{path}\n" for path in [*self._noted(), self.path]).encode())

    def _is_marked(self) -> bool:
        return self._mark.is_file()

    def _noted(self) -> list[str]:
        return self._note.read_text("utf-8", "replace").splitlines() if self._note.exists() else []


def check_lendable(lending: Lending) -> None:
    """Check a folder that is not lent yet, or is; nothing is made or changed.

    Raises:
        InvalidInput: it cannot be lent, or its disk is smaller (`agent.lends`).
    """
    path = Path(lending.folder)
    try:
        there = next(folder for folder in (path, *path.parents) if folder.exists())
        if there == path:
            check_ours(path)
            if not (path / MARK).exists():
                check_empty(path)
    except (NotAllowed, Conflict) as error:
        raise InvalidInput("agent.lends", error.message, error.hint) from error
    except OSError as error:
        raise InvalidInput("agent.lends", f"{path} cannot be used: {error.strerror or error}.") from error
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise InvalidInput("agent.lends", f"{path} cannot be made: {there} is no folder that this user may change.")
    disk = os.statvfs(there)
    if disk.f_blocks * disk.f_frsize < lending.size_bytes:
        size = size_text(disk.f_blocks * disk.f_frsize)
        raise InvalidInput("agent.lends", f"The disk of {path} has {size}.", "Lend less of it.")


def check_ours(path: Path) -> None:
    """Raise NotAllowed unless a folder is this user's and nobody else may change it."""
    status = path.stat()
    if not path.is_dir() or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise NotAllowed(
            "storage.folder",
            f"{path} is no folder of this user's that others cannot change.",
            f"Choose another one, or run: chmod 700 {path}",
        )


def check_empty(path: Path) -> None:
    """Raise Conflict unless nothing is in a folder."""
    if any(entry.name not in PASSED_OVER for entry in path.iterdir()):
        raise Conflict("storage.folder", f"There are other things in {path}.", "Lend an empty folder, or a new one.")


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all, whatever happens meanwhile, and survives a power failure."""
    fresh = path.with_suffix(FRESH)
    fresh.write_bytes(data)
    sync(fresh)
    fresh.replace(path)
    sync(path.parent)
