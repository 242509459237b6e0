"""Files out of a store, checked, and gone on with where a download was broken off; which are copied, and many names."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

from fallow.domain.errors import Conflict, InvalidInput, NotFound, Unavailable
from fallow.verticals.storage.client.store import Deleting, Entry, Listing, Store

CHUNK_BYTES: Final = 1 << 20
NAME_CHARACTERS: Final = 16
DELETED_AT_ONCE: Final = 500

Moved = Callable[[int], None]
"""Is told of bytes that have moved."""


class Sum:
    """The MD5 of bytes as S3 writes it in ETags: of all, or where they came in parts (`sizes`), of the parts' MD5s."""

    def __init__(self, sizes: Sequence[int] = ()) -> None:
        self._rest = iter(sizes)
        self._left = next(self._rest, None)
        self._parts: list[bytes] = []
        self._in_parts = self._left is not None
        self._now = hashlib.md5(usedforsecurity=False)
        self.add(b"")  # a first part may be empty, and nothing come of it

    def add(self, data: bytes) -> None:
        """Take bytes in."""
        while self._left is not None and len(data) >= self._left:
            self._now.update(data[: self._left])
            data = data[self._left :]
            self._parts.append(self._now.digest())
            self._now = hashlib.md5(usedforsecurity=False)
            self._left = next(self._rest, None)
        self._now.update(data)
        if self._left is not None:
            self._left -= len(data)

    @property
    def text(self) -> str:
        """The ETag of what was taken in."""
        if not self._in_parts:
            return self._now.hexdigest()
        return whole_etag(self._parts)


def whole_etag(parts: Sequence[bytes]) -> str:
    """The ETag of an object in parts, as S3 makes it of the parts' MD5s."""
    return f"{hashlib.md5(b''.join(parts), usedforsecurity=False).hexdigest()}-{len(parts)}"


async def download(store: Store, account: str, bucket: str, entry: Entry, path: Path, moved: Moved) -> None:
    """Write a version to `path`, which is there, whole, when this returns.

    What has come lies beside it until then, and a later download of the same version goes on behind it.

    Raises:
        OSError: it cannot be written.
        Unavailable: what has come is not what was stored (`storage.altered`), or cannot be had now.
    """
    part = path.with_name(
        f".{_mark(entry, path.name)}.part"
    )  # no longer than a name may be, which the object's own may just be
    await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
    with await asyncio.to_thread(_opened, part) as file:
        read = Sum([size for _, size in entry.parts])
        there = await asyncio.to_thread(_take, file, entry.size, read)
        moved(there)
        async for chunk in store.read(account, bucket, entry, there, entry.size):
            await asyncio.to_thread(file.write, chunk)
            read.add(chunk)
            moved(len(chunk))
        await asyncio.to_thread(_settle, file)
    if read.text != entry.head.etag:
        await asyncio.to_thread(part.unlink)
        raise Unavailable("storage.altered", f"What came of {entry.key} is not what was stored.", "Try again.")
    await asyncio.to_thread(part.replace, path)


def is_of(entry: Entry, path: Path) -> bool:
    """Whether a file has a version's bytes, by its ETag; one that is not there has not.

    Raises:
        OSError: it cannot be read.
    """
    if not path.is_file() or path.stat().st_size != entry.size:
        return False
    read = Sum([size for _, size in entry.parts])
    with path.open("rb") as file:
        _take(file, entry.size, read)
    return read.text == entry.head.etag


def place_below(folder: Path, name: str) -> Path:
    """Where a name lies below a folder.

    Raises:
        InvalidInput: it would lie elsewhere, or nowhere (`storage.path`): others may have chosen it.
    """
    parts = name.split("/")
    if any(part in {"", ".", ".."} or "\0" in part or os.sep in part for part in parts):
        raise InvalidInput("storage.path", f"{name!r} cannot be a file's path here.", "Fetch it by itself.")
    return folder.joinpath(*PurePosixPath(name).parts)


def files_below(folder: Path) -> list[tuple[Path, str]]:
    """All files below a folder, with their paths from there, divided by "/"."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(path, path.relative_to(folder).as_posix()) for path in found]


async def entries_below(store: Store, account: str, bucket: str, prefix: str) -> AsyncIterator[Entry]:
    """Yield the objects whose names begin so, by name."""
    async for page in pages_below(store, account, bucket, prefix):
        for entry in page.entries:
            yield entry


async def pages_below(
    store: Store, account: str, bucket: str, prefix: str, delimiter: str = "", *, versions: bool = False
) -> AsyncIterator[Listing]:
    """Yield pages of all names that begin so, or up to the next `delimiter`; with `versions` of all versions."""
    after, version = "", ""
    while True:
        page = await store.names(
            account,
            bucket,
            prefix=prefix,
            delimiter=delimiter,
            after=after,
            after_version=version,
            versions=versions,
        )
        yield page
        if not page.more:
            return
        if (page.after, page.after_version) == (after, version):
            raise Conflict("storage.list", "The list does not go on.")
        after, version = page.after, page.after_version


async def entry_there(store: Store, account: str, bucket: str, key: str, version: str = "") -> Entry:
    """Look an object up, or a version of it.

    Raises:
        NotFound: there is none, or it was deleted.
    """
    entry = await store.entry(account, bucket, key, version)
    if entry.marker:
        raise NotFound("storage.no_object", f"There is no object {key!r}: it was deleted.")
    return entry


async def delete_all(store: Store, account: str, bucket: str, deletions: Sequence[Deleting]) -> None:
    """Delete, some at a time; ends with those among which one was refused.

    Raises:
        InvalidInput: why it was refused.
    """
    for first in range(0, len(deletions), DELETED_AT_ONCE):
        for gone in await store.delete(account, bucket, deletions[first : first + DELETED_AT_ONCE]):
            if gone.error:
                raise InvalidInput(gone.error, f"{gone.key}: {gone.message}")


def _mark(entry: Entry, name: str) -> str:
    source = entry.source.version.hex() if entry.source is not None else ""
    words = f"{entry.version} {entry.made_ms} {entry.head.etag} {source} {entry.key} {name}"
    return hashlib.sha256(words.encode()).hexdigest()[:NAME_CHARACTERS]


def _opened(part: Path) -> BinaryIO:
    return part.open("r+b") if part.exists() else part.open("w+b")


def _take(file: BinaryIO, size: int, read: Sum) -> int:
    """Take in what has come before, and stand behind it; where there is more than can be, begin anew."""
    there = file.seek(0, os.SEEK_END)
    if there > size:
        file.truncate(0)
        there = 0
    file.seek(0)
    for _ in range(0, there, CHUNK_BYTES):
        read.add(file.read(CHUNK_BYTES))
    file.seek(there)
    return there


def _settle(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
