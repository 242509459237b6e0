"""What `fallow storage` does with objects: it seals and opens them on this machine, under the buyer's own secret."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, Self, TypeVar

from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as Bar

from fallow.bootstrap.own_storage import Served, granted_storage, own_gateway_served, own_storage
from fallow.cli import profiles
from fallow.cli.show import clean, err, tell
from fallow.cli.storage_place import Remote
from fallow.cli.storage_secret import load_secret
from fallow.domain.errors import FallowError, InvalidInput, NotAllowed, NotFound
from fallow.ports.tasks import first_error
from fallow.sdk.storage import OwnStorage
from fallow.verticals.storage.client.copying import (
    delete_all,
    download,
    entries_below,
    entry_there,
    files_below,
    is_of,
    pages_below,
    place_below,
)
from fallow.verticals.storage.client.granting import Grant
from fallow.verticals.storage.client.store import Deleting, Entry
from fallow.verticals.storage.client.uploading import PART_BYTES, upload

AT_ONCE: Final = 4
_SPOILT: Final = "storage.document"
"""Of what stands beside an object and cannot be read: whoever may write could have put it there."""
T = TypeVar("T")


def run(work: Callable[[OwnStorage], Awaitable[T]], grant: Grant | None = None) -> T:
    """Do something with the buyer's own store, or with what a grant opens."""

    async def with_store() -> T:
        with first_error():
            async with opened(grant) as own:
                return await work(own)

    return asyncio.run(with_store())


def opened(grant: Grant | None = None) -> AbstractAsyncContextManager[OwnStorage]:
    """Open the buyer's own store, or what a grant opens."""
    if grant is not None:
        return granted_storage(grant, _say_that_it_waits)
    return own_storage(profiles.load(), load_secret(), _say_that_it_waits)


@asynccontextmanager
async def served(port: int, grant: Grant | None = None) -> AsyncIterator[Served]:
    """Serve S3 to this machine while the context is open: of the buyer's own store, or of what a grant opens."""
    secret = grant.share.secret if grant else load_secret()
    async with opened(grant) as own, own_gateway_served(own, secret, port) as made:
        yield made


class Copied(NamedTuple):
    """What was copied: from where, to where, how many bytes; they were not `moved` where they were there already."""

    source: str
    target: str
    size: int
    moved: bool = True


async def copy_up(own: OwnStorage, source: Path, to: Remote, *, below: bool) -> list[Copied]:
    """Store a file, or with `below` all files of a folder by their paths in it, but for those that are there."""
    await own.store.bucket(to.bucket)
    beginning = to.key if not to.key or to.key.endswith("/") else f"{to.key}/"
    found = await asyncio.to_thread(_files, source, below=below)
    if below:
        files = [(path, beginning + name) for path, name in found]
    else:
        files = [(source, to.key if to.key and not to.key.endswith("/") else beginning + source.name)]
    size = await asyncio.to_thread(lambda: sum(path.stat().st_size for path, _ in files))
    with Moving("Storing", size) as moving:

        async def one(path: Path, key: str) -> Copied:
            there = await _seen(own, Remote(to.bucket, key)) if below else None
            if there is not None and await asyncio.to_thread(is_of, there, path):
                moving.moved(there.size)
                return Copied(str(path), str(Remote(to.bucket, key)), there.size, moved=False)
            entry = await upload(own.store, own.account, to.bucket, key, path, moving.moved)
            return Copied(str(path), str(Remote(to.bucket, key)), entry.size)

        try:
            return await _some_at_once(partial(one, path, key) for path, key in files)
        except BaseException:
            if size > PART_BYTES:
                tell("What was stored of large files is kept for a week: the same command goes on from there.")
            raise


async def copy_down(own: OwnStorage, source: Remote, to: Path, *, below: bool) -> list[Copied]:
    """Fetch an object, or with `below` all whose names begin so, by what follows in them, but for what is here."""
    await own.store.bucket(source.bucket)
    if below:
        beginning = source.key if not source.key or source.key.endswith("/") else f"{source.key}/"
        found = entries_below(own.store, own.account, source.bucket, beginning)
        # What marks a folder has no bytes, and a name that no file can have.
        sizes = {entry.key: entry.size async for entry in found if not entry.key.endswith("/")}
        wanted = [(key, place_below(to, key[len(beginning) :])) for key in sizes]
    else:
        sizes = {source.key: (await _entry(own, source)).size}
        into = await asyncio.to_thread(to.is_dir)
        wanted = [(source.key, place_below(to, source.key.rpartition("/")[2]) if into else to)]
    with Moving("Fetching", sum(sizes.values())) as moving:

        async def one(key: str, path: Path) -> Copied:
            at = Remote(source.bucket, key)
            entry = await _entry(own, at)
            if below and await asyncio.to_thread(is_of, entry, path):
                moving.moved(entry.size)
                return Copied(str(at), str(path), entry.size, moved=False)
            await download(own.store, own.account, source.bucket, entry, path, moving.moved)
            return Copied(str(at), str(path), entry.size)

        return await _some_at_once(partial(one, key, path) for key, path in wanted)


async def remove(own: OwnStorage, at: Remote, *, below: bool) -> list[str]:
    """Delete an object, or with `below` all whose names begin so, as they are listed; returns their names."""
    await own.store.bucket(at.bucket)
    if not below:
        return await _removed(own, at.bucket, [Deleting(await _there(own, at))])
    names = list[str]()
    async for page in pages_below(own.store, own.account, at.bucket, at.key):
        found = [Deleting(entry.key) for entry in page.entries]
        names += await _removed(own, at.bucket, found + [Deleting("", sealed=name) for name in page.damaged])
    return names


async def listed(own: OwnStorage, at: Remote, *, below: bool) -> tuple[list[str], list[Entry]]:
    """Folders and objects whose names begin so; with `below` all objects and no folders."""
    await own.store.bucket(at.bucket)
    folders, entries, damaged = list[str](), list[Entry](), 0
    async for page in pages_below(own.store, own.account, at.bucket, at.key, "" if below else "/"):
        folders += page.folders
        entries += page.entries
        damaged += len(page.damaged)
    if damaged:
        tell(f"{damaged} names cannot be read. Somebody who may write put them there; `rm -r` deletes them.")
    return folders, entries


async def _removed(own: OwnStorage, bucket: str, found: Sequence[Deleting]) -> list[str]:
    await delete_all(own.store, own.account, bucket, found)
    return [one.key or f"a name that cannot be read ({one.sealed.hex()[:16]}…)" for one in found]


class Moving:
    """A bar of bytes that move; it shows nothing where there is no terminal."""

    def __init__(self, what: str, total: int) -> None:
        console = err()
        self._bar = Bar(
            TextColumn(what), BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console, transient=True, disable=not console.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task(what, total=total)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def moved(self, size: int) -> None:
        """Take note of bytes."""
        self._bar.advance(self._task, size)


def _files(source: Path, *, below: bool) -> list[tuple[Path, str]]:
    """The file, or all in the folder, with their names.

    Raises:
        InvalidInput: it is none (`cli.file`).
    """
    if below and source.is_dir():
        return files_below(source)
    if not below and source.is_file():
        return [(source, source.name)]
    hint = "Copy what is in a folder with -r." if source.is_dir() else "Check the path."
    raise InvalidInput("cli.file", f"{source} is no {'folder' if below else 'file'}.", hint)


async def _entry(own: OwnStorage, at: Remote) -> Entry:
    return await entry_there(own.store, own.account, at.bucket, at.key)


async def _seen(own: OwnStorage, at: Remote) -> Entry | None:
    """What is there; None: nothing, or nothing that a grant shows, or that can be read."""
    try:
        return await _entry(own, at)
    except (NotFound, NotAllowed):
        return None
    except InvalidInput as error:
        if error.code != _SPOILT:
            raise
        return None


async def _there(own: OwnStorage, at: Remote) -> str:
    """Return the name of what is there, whether or not what stands beside it can be read."""
    try:
        return (await _entry(own, at)).key
    except InvalidInput as error:
        if error.code != _SPOILT:
            raise
        return at.key


async def _some_at_once(works: Iterable[Callable[[], Awaitable[T]]]) -> list[T]:
    """Begin a few at a time: of what the first error cancels, the rest was not begun."""
    waiting, done = enumerate(works), dict[int, T]()

    async def some() -> None:
        for number, work in waiting:
            done[number] = await work()

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(some())
    return [done[number] for number in sorted(done)]


def _say_that_it_waits(error: FallowError) -> None:
    tell(f"Waiting for the network (Ctrl-C ends it): {clean(error.message)}")


def entry_document(entry: Entry) -> dict[str, Any]:
    """What `--json` shows of an object."""
    return {"name": entry.key, "size": entry.size, "made_ms": entry.made_ms, "etag": entry.head.etag}
