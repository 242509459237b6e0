"""The data folder: made, checked, locked; and small files in it that must survive a crash or stay private."""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fallow.adapters.engines.users import EngineUser, blocked_folder
from fallow.domain.errors import Conflict, InvalidInput
from fallow.ports.files import sync

_ROOT_MODE = 0o711  # others pass through to the folders that are theirs, and see nothing
_OWN_MODE = 0o700
_LOCK_SECONDS = 3.0


def make_data_folder(data: Path, user: EngineUser) -> None:
    """Make the data folder (and missing parents) if need be, and make sure that `user` gets to it.

    Permissions of folders that exist are never changed.

    Raises:
        InvalidInput: it cannot be made, is not a folder, or `user` cannot enter a folder on the way.
    """
    missing = [folder for folder in [*reversed(data.parents), data] if not folder.exists()]
    _check_reachable(missing[0].parent if missing else data, data, user)
    try:
        for folder in missing:
            folder.mkdir(exist_ok=True)
            # We made it: a strict umask must not lock the engine out of its own data.
            folder.chmod(_ROOT_MODE if user.drop else _OWN_MODE)
        if not data.is_dir():
            raise NotADirectoryError(20, "it is not a folder")
    except OSError as error:
        raise InvalidInput(
            "engine.data_unusable",
            f"{data} cannot be used as a data folder: {error.strerror}.",
            "Choose another folder, or correct its owner and permissions.",
        ) from error


def _check_reachable(existing: Path, data: Path, user: EngineUser) -> None:
    blocked = blocked_folder(existing, user)
    if blocked is None:
        return
    raise InvalidInput(
        "engine.data_unreachable",
        f"The engines run as user number {user.uid}, who cannot enter {blocked}, so they cannot keep data in {data}.",
        f"Choose a data folder elsewhere (for example /var/lib/fallow), start as an ordinary user,"
        f" or let others pass through with: chmod o+x {blocked}",
    )


@contextmanager
def data_lock(data: Path, engine: str) -> Iterator[None]:
    """Hold `engine`'s place in the data folder. The kernel gives it back when this process ends, however it ends.

    May block for a moment: enter it in a thread.

    Raises:
        Conflict: somebody else, or another part of this process, holds it.
    """
    folder = data / "lock"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / engine
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        if not _taken(handle):
            raise Conflict(
                "engine.data_in_use",
                f"{engine} in {data} is already run by process {_holder(handle) or '(unknown)'}.",
                "Stop that one (or what it left running) first, or choose another data folder.",
            )
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)


def _taken(handle: int) -> bool:
    """Try to get the lock. A child that a killed holder was just forking keeps it until it execs: wait for that."""
    give_up = time.monotonic() + _LOCK_SECONDS
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        holder = _holder(handle)
        if (holder and _alive(holder)) or time.monotonic() > give_up:
            return False
        time.sleep(0.01)


def _holder(handle: int) -> int:
    """The process that got the lock last, or 0."""
    text = os.pread(handle, 20, 0).strip()
    return int(text) if text.isdigit() else 0


def _alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def private_folder(path: Path, user: EngineUser) -> Path:
    """Make a folder that only `user` (and root) can enter. One that exists is left as it is."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        return path
    give_to(path, user)
    return path


def give_to(path: Path, user: EngineUser) -> None:
    """Make `user` the owner of something we have just made."""
    if user.drop:
        os.chown(path, user.uid, user.gid, follow_symlinks=False)


def write_private(path: Path, text: str, user: EngineUser | None = None) -> None:
    """Replace a file at once and durably, mode 0600, owned by `user` (or ourselves).

    The folder may belong to an engine that has been taken over: nothing in it is followed or trusted.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            if user is not None and user.drop:
                os.fchown(file.fileno(), user.uid, user.gid)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    sync(path.parent)


def secret(data: Path, name: str, *, create: bool) -> str:
    """The random password kept in `<data>/secrets/<name>` (mode 0600), made on first use if `create`.

    Raises:
        Conflict: it is not there although the data that it opens is.
    """
    folder = data / "secrets"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / name
    try:
        return path.read_text("utf-8").strip()
    except FileNotFoundError:
        if not create:
            raise Conflict(
                "engine.secret_missing",
                f"{path} is gone, and with it the password of the data beside it.",
                f"Restore {folder} from the backup that {data} came from.",
            ) from None
    value = secrets.token_urlsafe(32)
    write_private(path, value + "\n")
    return value
