"""Objects under their owner's own secret, or in a part that a grant opens, for code without asyncio."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final, NamedTuple, Protocol, Self

from fallow.domain.grants import read_grant_id
from fallow.sdk.loop import Loop, nothing
from fallow.verticals.storage.client.copying import (
    Moved,
    delete_all,
    download,
    entry_there,
    pages_below,
    whole_etag,
)
from fallow.verticals.storage.client.granting import Limits, read_grant
from fallow.verticals.storage.client.store import Deleting, Ended, Entry, Head, Marks, Store
from fallow.verticals.storage.client.uploading import upload
from fallow.verticals.storage.core.grants import PREFIX, Operation

BINARY: Final = "application/octet-stream"


class Shares(Protocol):
    """Makes grants of what a store opens, and ends them."""

    async def share(self, bucket: str, name: str, limits: Limits) -> str:
        """Return a grant as it is handed over; see `fallow.verticals.storage.client.granting`."""
        ...

    async def revoke(self, grant: bytes) -> None:
        """End one, by its id."""
        ...


class OwnStorage(NamedTuple):
    """A store whose secret nobody else has, the account whose buckets it opens, and what shares them.

    What a grant opens is `within` a bucket, and there what begins with a name.
    """

    store: Store
    account: str
    shares: Shares
    within: tuple[str, str] | None = None


class StoredObject(NamedTuple):
    """An object: its name, bytes, when it was stored (ms since 1970), its ETag, and what was written beside it.

    `version` is what it is read by, whatever is stored in its place meanwhile.
    """

    name: str
    size: int
    made_ms: int
    etag: str
    content_type: str
    metadata: Mapping[str, str]
    version: str


class Listing(NamedTuple):
    """Names below a beginning: folders, which end with "/", and objects."""

    folders: Sequence[str]
    objects: Sequence[StoredObject]


def nobody_told(_: int) -> None:
    """Tell nobody of bytes that have moved."""


class Storage:
    """Objects by their names; `fallow.open_storage()` makes one. Threads may share it.

    with fallow.open_storage() as storage:
        storage.write("photos", "2026/a.txt", b"text")
        assert storage.read("photos", "2026/a.txt", 0, 2) == b"te"

    Raises of all methods: the classes of `FallowError`; NotFound where there is no such bucket or object, NotAllowed
    where a grant does not reach.
    """

    def __init__(self, opening: AbstractAsyncContextManager[OwnStorage]) -> None:
        self._loop = Loop()
        try:
            self._store, self._account, self._shares, self._within = self._loop.hold(opening)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and end the thread. Once is enough."""
        self._loop.stop(nothing())

    def buckets(self) -> list[str]:
        """Names of the account's buckets; a grant does not say."""
        return [bucket.name for bucket in self._loop.run(self._store.buckets(self._account))]

    def make_bucket(self, bucket: str) -> None:
        """Make a bucket under your own secret."""
        self._loop.run(self._store.make_bucket(self._account, bucket, settings={}))

    def drop_bucket(self, bucket: str) -> None:
        """Drop an empty bucket."""
        self._loop.run(self._store.drop_bucket(self._account, bucket))

    def list(self, bucket: str, prefix: str = "", *, recursive: bool = False) -> Listing:
        """List what begins with `prefix`, up to the next "/", or with `recursive` all of it."""
        return self._loop.run(self._list(bucket, prefix, "" if recursive else "/"))

    def has(self, bucket: str, prefix: str) -> bool:
        """Whether any name begins so."""
        return self._loop.run(self._has(bucket, prefix))

    def leads(self, bucket: str, prefix: str) -> bool:
        """Whether what a grant opens begins so: the network tells its holder nothing of what is on the way there."""
        return self._within is not None and self._within[0] == bucket and self._within[1].startswith(prefix)

    def info(self, bucket: str, name: str) -> StoredObject:
        """Look an object up."""
        return _shown(self._loop.run(self._entry(bucket, name)))

    def read(self, bucket: str, name: str, start: int = 0, stop: int | None = None, *, version: str = "") -> bytes:
        """Return an object's bytes, or those from `start` up to `stop`; each was checked.

        With a `version`, as `info` says it, of that one; NotFound where it is not there any more.
        """
        return self._loop.run(self._read(bucket, name, start, stop, version))

    def write(self, bucket: str, name: str, data: bytes, *, content_type: str = BINARY) -> StoredObject:
        """Store bytes as an object. It is there, whole, when this returns."""
        ended = Ended(_md5(data), {})  # here and not in the loop, which moves what other threads want meanwhile
        return _shown(self._loop.run(self._write(bucket, name, data, ended, content_type)))

    def begin(self, bucket: str, name: str) -> Parts:
        """Begin an object that is written in parts."""
        return Parts(self._loop, self._store, self._account, bucket, name)

    def upload(self, path: Path, bucket: str, name: str, moved: Moved = nobody_told) -> StoredObject:
        """Store a file. `moved` is told of bytes that have moved, in another thread."""
        return _shown(self._loop.run(self._upload(path, bucket, name, moved)))

    def download(self, bucket: str, name: str, path: Path, moved: Moved = nobody_told) -> StoredObject:
        """Fetch an object into a file, from where an earlier try was broken off; it is checked as a whole."""
        entry = self._loop.run(self._entry(bucket, name))
        self._loop.run(download(self._store, self._account, bucket, entry, path, moved))
        return _shown(entry)

    def delete(self, bucket: str, names: Iterable[str]) -> None:
        """Delete objects; what is not there is deleted, too."""
        self._loop.run(self._delete(bucket, [Deleting(name) for name in names]))

    def share(
        self,
        bucket: str,
        name: str = "",
        *,
        allow: Sequence[Operation] = ("read", "list"),
        from_ms: int = 0,
        until_ms: int | None = None,
    ) -> str:
        """Return a grant for all below a `name` that ends with "/" (empty: the bucket), else for that one object.

        Times are ms since 1970; without an end it holds until it is revoked. One object cannot be listed. Who has a
        storage by a grant makes narrower ones: NotAllowed where it would be wider.
        """
        return self._loop.run(self._shares.share(bucket, name, Limits(allow, from_ms, until_ms)))

    def revoke(self, grant: str) -> None:
        """End a grant of yours, given itself or as its id (32 hex digits), and all that was made of it."""
        id_ = read_grant(grant).id if grant.startswith(PREFIX) else read_grant_id(grant)
        self._loop.run(self._shares.revoke(id_))

    async def _opens(self, bucket: str) -> Store:
        """Return the store, if the bucket is sealed under its secret: in others it finds nothing, and leaves junk.

        What the network said of a bucket is remembered for a moment: this need not ask it each time.
        """
        await self._store.bucket(bucket)
        return self._store

    async def _has(self, bucket: str, prefix: str) -> bool:
        store = await self._opens(bucket)
        return bool((await store.names(self._account, bucket, prefix=prefix, limit=1)).entries)

    async def _upload(self, path: Path, bucket: str, name: str, moved: Moved) -> Entry:
        return await upload(await self._opens(bucket), self._account, bucket, name, path, moved)

    async def _delete(self, bucket: str, deletions: Sequence[Deleting]) -> None:
        await delete_all(await self._opens(bucket), self._account, bucket, deletions)

    async def _list(self, bucket: str, prefix: str, delimiter: str) -> Listing:
        folders, objects = list[str](), list[StoredObject]()
        async for page in pages_below(await self._opens(bucket), self._account, bucket, prefix, delimiter):
            folders += page.folders
            objects += [_shown(entry) for entry in page.entries]
        return Listing(folders, objects)

    async def _entry(self, bucket: str, name: str, version: str = "") -> Entry:
        return await entry_there(await self._opens(bucket), self._account, bucket, name, version)

    async def _read(self, bucket: str, name: str, start: int, stop: int | None, version: str) -> bytes:
        entry = await self._entry(bucket, name, version)
        first, last = max(0, start), entry.size if stop is None else min(stop, entry.size)
        chunks = self._store.read(self._account, bucket, entry, first, last)
        return b"".join([chunk async for chunk in chunks])

    async def _write(self, bucket: str, name: str, data: bytes, ended: Ended, content_type: str) -> Entry:
        head, store = Head(headers={"content-type": content_type}), await self._opens(bucket)
        return await store.put(self._account, bucket, name, _body(data), lambda: ended, head=head, marks=Marks())


class Parts:
    """An object that is written in parts: each stored when `add` returns, the object there when `complete` does."""

    def __init__(self, loop: Loop, store: Store, account: str, bucket: str, name: str) -> None:
        self._loop = loop
        self._store = store
        self._at = (account, bucket, name)
        self._sums: list[bytes] = []
        loop.run(store.bucket(bucket))
        self._upload = loop.run(store.begin(*self._at, head=Head(), marks=Marks()))

    def add(self, data: bytes) -> None:
        """Store the next part."""
        ended, number = Ended(_md5(data), {}), len(self._sums) + 1
        self._loop.run(self._store.put_part(*self._at, self._upload, number, _body(data), lambda: ended))
        self._sums.append(bytes.fromhex(ended.etag))

    def complete(self) -> None:
        """Make the object of the parts."""
        parts = [(number, one.hex()) for number, one in enumerate(self._sums, start=1)]
        head = Head(headers={"content-type": BINARY}, etag=whole_etag(self._sums))
        self._loop.run(self._store.complete(*self._at, self._upload, parts, head=head))

    def abort(self) -> None:
        """Give it up: its parts go."""
        self._loop.run(self._store.abort(*self._at, self._upload))


async def _body(data: bytes) -> AsyncIterator[bytes]:
    if data:
        yield data


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _shown(entry: Entry) -> StoredObject:
    head = entry.head
    kind = head.headers.get("content-type", BINARY)
    version = entry.source.version.hex() if entry.source is not None else entry.version
    return StoredObject(entry.key, entry.size, entry.made_ms, head.etag, kind, head.metadata, version)
