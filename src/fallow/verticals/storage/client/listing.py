"""Lists of names between any delimiters: the network knows "/" alone, others are skipped over from here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from fallow.verticals.storage.client.keys import Keys
from fallow.verticals.storage.core.calls.base import PAGE_MAX
from fallow.verticals.storage.core.calls.objects import Listed, Version, behind

SKIP_PAGE: Final = 100
"""Names that are had at a time where most may be skipped."""


class Asked(NamedTuple):
    """What is to be listed: names as bytes."""

    prefix: bytes
    delimiter: bytes
    after: bytes
    after_version: bytes
    versions: bool
    limit: int


class Found(NamedTuple):
    """A page: versions with their names, and folders. `after` (and `after_version`) is the last of it.

    `damaged` are sealed names on the way that nobody can read: whoever may write can put any bytes there.
    """

    versions: list[tuple[bytes, Version]]
    folders: list[bytes]
    more: bool
    after: bytes
    after_version: bytes
    damaged: Sequence[bytes] = ()


Page = Callable[[bytes, bytes, bytes, bool, int], Awaitable[Listed]]
"""Asks for a page: sealed prefix, sealed name and version that it comes behind, whether with folders, how many."""


def folder_of(asked: Asked, name: bytes) -> bytes:
    """The folder in which a list shows a name; empty: it shows the name itself."""
    at = name.find(asked.delimiter, len(asked.prefix)) if asked.delimiter else -1
    return name[: at + len(asked.delimiter)] if at >= 0 else b""


async def find(asked: Asked, keys: Keys, page: Page) -> Found:
    """List up to `limit` versions and folders together."""
    found = Found([], [], more=False, after=b"", after_version=b"")
    prefix = keys.seal_name(asked.prefix)
    after, after_version = keys.seal_name(asked.after), asked.after_version
    if asked.after.startswith(asked.prefix) and (folder := folder_of(asked, asked.after)):
        after, after_version = behind(keys.seal_name(folder)), b""
    skips, damaged = asked.delimiter not in {b"", b"/"}, list[bytes]()
    while True:
        room = asked.limit - len(found.versions) - len(found.folders)
        size = min(PAGE_MAX, max(room, SKIP_PAGE) if skips else room)
        listed = await page(prefix, after, after_version, asked.delimiter == b"/" and not skips, size)
        names = await asyncio.to_thread(keys.open_each, [version.name for version in listed.versions])
        folders = await asyncio.to_thread(keys.open_each, listed.folders)
        if not all(folder is not None and folder_of(asked, folder) for folder in folders):
            # Whoever may write says where the slashes of his name are, and with a false one the network skips what is
            # none of his: from here on they are looked for in the names.
            skips = True
            continue
        lines = list(zip(names, listed.versions, strict=True))
        damaged += [version.name for name, version in lines if name is None]
        good = [(name, version) for name, version in lines if name is not None]
        found = _add(asked, found, good, [folder for folder in folders if folder is not None])
        if found.more or not listed.more:
            return found._replace(damaged=damaged)
        if len(found.versions) + len(found.folders) == asked.limit and not skips:
            return found._replace(more=True, damaged=damaged)
        after, after_version = listed.after, listed.after_version
        if skips and names and names[-1] is not None and (folder := folder_of(asked, names[-1])):
            after, after_version = behind(keys.seal_name(folder)), b""


def _add(asked: Asked, found: Found, listed: list[tuple[bytes, Version]], folders: list[bytes]) -> Found:
    """Add a page, until the limit is reached; `more` says that something is left over."""
    versions, shown = list(found.versions), list(found.folders)
    after, after_version = found.after, found.after_version
    lines: list[tuple[bytes, Version | None]] = [*listed, *((folder, None) for folder in folders)]
    for name, version in sorted(lines, key=lambda line: line[0]):
        folder = folder_of(asked, name)
        if folder and folder == (shown[-1] if shown else b""):
            continue
        if len(versions) + len(shown) == asked.limit:
            return Found(versions, shown, more=True, after=after, after_version=after_version)
        if folder:
            shown.append(folder)
            after, after_version = folder, b""
        elif version is not None:
            versions.append((name, version))
            after, after_version = name, version.version
    return Found(versions, shown, more=False, after=after, after_version=after_version)
