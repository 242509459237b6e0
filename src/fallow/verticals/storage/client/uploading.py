"""Files into a store: large ones in parts, so that what was broken off goes on with what is not there yet.

Nothing is kept on this machine for that: the upload itself, sealed, says of which file it is, and parts that are there
are held against the file by their MD5s.
"""

from __future__ import annotations

import asyncio
import mimetypes
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from fallow.domain.errors import Conflict, NotAllowed
from fallow.ports.tasks import first_error
from fallow.verticals.storage.client.copying import CHUNK_BYTES, Moved, Sum, whole_etag
from fallow.verticals.storage.client.store import Ended, Entry, Head, Marks, Store
from fallow.verticals.storage.core.calls.base import PARTS_MAX
from fallow.verticals.storage.core.layout import SEGMENT_BYTES

PART_BYTES: Final = SEGMENT_BYTES
"""A file that is no larger goes at once: more than that is never sent twice."""
PARTS_AT_ONCE: Final = 2
"""While one is sent the next is read; each takes a segment of memory."""
FILE: Final = "fallow-file"
"""What an open upload says of its file, among its metadata; the object's do not have it."""


class Stamp(NamedTuple):
    """By which a file is taken for the same: its bytes, and when it was changed (ns)."""

    size: int
    changed_ns: int

    @classmethod
    def of(cls, file: BinaryIO) -> Stamp:
        """Look at an open file."""
        found = os.fstat(file.fileno())
        return cls(found.st_size, found.st_mtime_ns)


async def upload(store: Store, account: str, bucket: str, key: str, path: Path, moved: Moved) -> Entry:
    """Store a file as an object; an earlier try of the same file is gone on with.

    Raises:
        OSError: it cannot be read.
        Conflict: `storage.file_changed`: it was written to meanwhile; nothing is stored.
        FallowError: as `Store.put`.
    """
    with _opened(path) as file:
        sending = _Sending(store, (account, bucket, key), file, path, moved)
        return await (sending.in_parts() if Stamp.of(file).size > PART_BYTES else sending.whole())


class _Sending:
    def __init__(self, store: Store, at: tuple[str, str, str], file: BinaryIO, path: Path, moved: Moved) -> None:
        self._store = store
        self._at = at
        self._file = file
        self._path = path
        self._stamp = Stamp.of(file)
        self._moved = moved
        self._part_bytes = max(PART_BYTES, -(-self._stamp.size // PARTS_MAX))

    async def whole(self) -> Entry:
        read = Sum()

        def finish() -> Ended:
            self._check_unchanged()
            return Ended(read.text, {})

        async with aclosing(self._body(0, self._stamp.size, read)) as chunks:
            return await self._store.put(*self._at, chunks, finish, head=self._head(), marks=Marks())

    async def in_parts(self) -> Entry:
        sizes = [
            min(self._part_bytes, self._stamp.size - start) for start in range(0, self._stamp.size, self._part_bytes)
        ]
        begun, there = await self._begun()
        room = asyncio.Semaphore(PARTS_AT_ONCE)

        async def one(number: int, size: int) -> str:
            async with room:
                start = (number - 1) * self._part_bytes
                if number in there and await asyncio.to_thread(self._md5, start, size) == there[number]:
                    self._moved(size)
                    return there[number]
                return await self._send(begun, number, start, size)

        with first_error():
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(number, size)) for number, size in enumerate(sizes, start=1)]
        etags = [task.result() for task in tasks]
        try:
            self._check_unchanged()
        except Conflict:
            await self._store.abort(*self._at, begun)
            raise
        head = self._head(etag=whole_etag([bytes.fromhex(etag) for etag in etags]))
        return await self._store.complete(*self._at, begun, list(enumerate(etags, start=1)), head=head)

    async def _begun(self) -> tuple[str, Mapping[int, str]]:
        """The upload that is gone on with, and the ETags of its parts by number; or a new one."""
        account, bucket, key = self._at
        mark = f"{self._stamp.size} {self._stamp.changed_ns} {self._part_bytes}"
        try:
            found = await self._store.uploads(account, bucket, prefix=key)
        except NotAllowed:  # by a grant that may write and not list
            found = []
        mine = [one for one in found if one.key == key and one.head.metadata.get(FILE) == mark]
        if not mine:
            return await self._store.begin(*self._at, head=Head(metadata={FILE: mark}), marks=Marks()), {}
        latest = max(mine, key=lambda one: one.made_ms).upload
        parts = await self._store.parts(*self._at, latest, limit=PARTS_MAX)
        return latest, {part.number: part.etag for part, _ in parts}

    async def _send(self, begun: str, number: int, start: int, size: int) -> str:
        read = Sum()
        async with aclosing(self._body(start, size, read)) as chunks:
            part = await self._store.put_part(*self._at, begun, number, chunks, lambda: Ended(read.text, {}))
        return part.etag

    async def _body(self, start: int, size: int, read: Sum) -> AsyncGenerator[bytes, None]:
        stop = start + size
        while chunk := await asyncio.to_thread(self._read, start, stop):
            read.add(chunk)
            start += len(chunk)
            yield chunk
            self._moved(len(chunk))

    def _md5(self, start: int, size: int) -> str:
        read, stop = Sum(), start + size
        while chunk := self._read(start, stop):
            read.add(chunk)
            start += len(chunk)
        return read.text

    def _read(self, start: int, stop: int) -> bytes:
        """Read from where a part stands: several are read at a time."""
        return os.pread(self._file.fileno(), min(CHUNK_BYTES, stop - start), start)

    def _head(self, etag: str = "") -> Head:
        kind = mimetypes.guess_type(self._path.name)[0] or "application/octet-stream"
        return Head(headers={"content-type": kind}, etag=etag)

    def _check_unchanged(self) -> None:
        if Stamp.of(self._file) != self._stamp:
            hint = "Copy it when nobody writes to it."
            raise Conflict("storage.file_changed", f"{self._path} was changed while it was stored.", hint)


def _opened(path: Path) -> BinaryIO:
    """Open a file here and now: what a thread opens for who is cancelled meanwhile is closed by nobody."""
    return path.open("rb")
