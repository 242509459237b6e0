"""As whom an engine runs, and what that user can reach."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from fallow.domain.errors import Conflict, InvalidInput, NotFound

CANDIDATES = ("postgres", "nobody")
ENTER = 0o1
READ = 0o4


@dataclass(frozen=True, slots=True)
class EngineUser:
    """The user of an engine. `drop` says that we are root and the launcher must change to it."""

    uid: int
    gid: int
    drop: bool


def choose_user(requested: str | None, folder: Path) -> EngineUser:
    """Decide who runs the engine whose files are (or will be) in `folder`. Never root, and nobody is created.

    Not root: ourselves. Root: `requested`, else the owner of what is already in `folder`, else the first of
    `CANDIDATES` that exists.

    Raises:
        InvalidInput: the requested user is root, or we are not root and it is somebody else.
        NotFound: the requested user, or every candidate, is unknown here.
        Conflict: `folder` belongs to another user.
    """
    owner = _owner(folder)
    if os.geteuid() != 0:
        return _ourselves(requested, owner, folder)
    if requested is None and owner is not None:
        return owner
    user = _named(requested) if requested is not None else _first_candidate()
    _check_owner(user, owner, folder)
    return user


def blocked_folder(path: Path, user: EngineUser) -> Path | None:
    """The first folder on the way to `path` (itself included if a folder) that `user` may not enter, or None.

    Only asked of a user we change to: ourselves we let the kernel judge.
    """
    if not user.drop:
        return None
    for folder in [*reversed(path.parents), path]:
        if folder.is_dir() and not allows(folder, user, ENTER):
            return folder
    return None


def allows(path: Path, user: EngineUser, bits: int) -> bool:
    """Whether the mode of `path` gives `user`, who has no supplementary groups, all of `bits` (4 read, 1 enter)."""
    status = path.stat()
    if status.st_uid == user.uid:
        shift = 6
    elif status.st_gid == user.gid:
        shift = 3
    else:
        shift = 0
    return (status.st_mode >> shift) & bits == bits


def _ourselves(requested: str | None, owner: EngineUser | None, folder: Path) -> EngineUser:
    user = EngineUser(os.geteuid(), os.getegid(), drop=False)
    if requested is not None and _named(requested).uid != user.uid:
        raise InvalidInput(
            "engine.cannot_change_user",
            f"Only root can run an engine as {requested!r}.",
            "Leave the user out, or start as root.",
        )
    _check_owner(user, owner, folder)
    return user


def _named(name: str) -> EngineUser:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise NotFound(
            "engine.unknown_user", f"There is no user {name!r} on this machine.", "Name a user that exists."
        ) from None
    if entry.pw_uid == 0:
        raise InvalidInput(
            "engine.user_is_root", f"An engine never runs as root, and {name!r} is root.", "Name another user."
        )
    return EngineUser(entry.pw_uid, entry.pw_gid, drop=True)


def _first_candidate() -> EngineUser:
    for name in CANDIDATES:
        try:
            return _named(name)
        except NotFound:
            continue
    raise NotFound(
        "engine.no_user",
        f"Engines do not run as root, and this machine has none of the users {', '.join(CANDIDATES)}.",
        "Name an unprivileged user that exists, or start as one.",
    )


def _owner(folder: Path) -> EngineUser | None:
    """Who owns an existing engine folder. One that root owns counts as not there yet."""
    try:
        status = folder.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        return None  # the check of the data folder says so better
    return EngineUser(status.st_uid, status.st_gid, drop=True) if status.st_uid != 0 else None


def _check_owner(user: EngineUser, owner: EngineUser | None, folder: Path) -> None:
    if owner is None or owner.uid == user.uid:
        return
    raise Conflict(
        "engine.foreign_data",
        f"{folder} belongs to user number {owner.uid}, but the engine would run as {user.uid}.",
        "Start as the user (or with the user setting) that made it, or give the folder to the new one with chown -R.",
    )
