"""Objects by their names, as gateways and native clients work with them: what lies below is sealed, cut and spread.

`account` is always a bucket's owner; whoever lets others in judges that before.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec

from fallow.verticals.storage.core.calls.base import Retention
from fallow.verticals.storage.core.calls.buckets import Bucket
from fallow.verticals.storage.core.calls.objects import If, Unpurged, Version
from fallow.verticals.storage.core.calls.uploads import StoredPart


class Head(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What comes with an object's bytes and stays: sealed beside them.

    `headers` are those that a reader gets back as they are (content-type, cache-control ...), by lower-case name.
    `metadata` is the writer's own. `checksums` are of the bytes, base64 by algorithm (crc32, crc32c, crc64nvme, sha1,
    sha256); `composite`: of the parts' checksums. `part_sums` are those of the parts, one behind the other, where they
    were few enough to be kept. `etag` is the object's.
    """

    headers: dict[str, str] = {}
    metadata: dict[str, str] = {}
    checksums: dict[str, str] = {}
    composite: bool = False
    part_sums: bytes = b""
    etag: str = ""


class Marks(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What can be changed of a version: its tags, and the gateway's own document on who may read it."""

    tags: dict[str, str] = {}
    acl: bytes = b""


class Lock(NamedTuple):
    """How long a version is kept whatever its owner says (ms since 1970), and whether it is held."""

    retention: Retention = ""
    until_ms: int = 0
    hold: bool = False


NO_LOCK = Lock()
ALWAYS = If()


class Entry(NamedTuple):
    """A version of an object.

    `version` is its id in hex, or "null"; `source` is what the store that made the entry reads it by.
    """

    key: str
    version: str
    marker: bool
    latest: bool
    size: int
    made_ms: int
    head: Head
    marks: Marks
    lock: Lock
    parts: Sequence[tuple[int, int]]
    source: Version | None = None


class Listing(NamedTuple):
    """A page: entries and folders, each in the order of their names' UTF-8 bytes.

    `after` and `after_version` are where the next page goes on; "" where this is the last. `damaged` are sealed names
    that nobody can read: who may write and keeps to no client's rules can put any bytes there.
    """

    entries: Sequence[Entry]
    folders: Sequence[str]
    more: bool
    after: str
    after_version: str
    damaged: Sequence[bytes] = ()


class Ended(NamedTuple):
    """What is known once all bytes have come: the ETag (MD5 in hex where it is of S3), and checksums for the head."""

    etag: str
    checksums: Mapping[str, str]


Finish = Callable[[], Ended]
"""Called once the last byte was taken; what it raises leaves nothing behind."""
Body = AsyncIterator[bytes]


class Deleting(NamedTuple):
    """An object to delete: the latest as the bucket's versioning says, or one `version` for good ("null": that).

    One whose name cannot be read is deleted by its `sealed` one, and its `key` is "".
    """

    key: str
    version: str = ""
    only_if: If = ALWAYS
    sealed: bytes = b""


class Gone(NamedTuple):
    """What became of it; `error` is a code where it was refused. `marker`: a delete marker was made, or deleted."""

    key: str
    version: str = ""
    marker: bool = False
    error: str = ""
    message: str = ""


class Begun(NamedTuple):
    """An upload in parts."""

    upload: str
    key: str
    made_ms: int
    head: Head
    marks: Marks


class Store(Protocol):
    """Buckets and objects. Errors are those of the calls in `core.calls`, and those of nodes that cannot be reached."""

    async def make_bucket(
        self,
        account: str,
        bucket: str,
        *,
        settings: Mapping[str, bytes],
        lock: bool = False,
        countries: Sequence[str] = (),
        profile: str = "",
    ) -> Bucket:
        """See `MakeBucket`."""
        ...

    async def bucket(self, bucket: str) -> Bucket:
        """See `GetBucket`. NotAllowed: it is sealed under another secret than this store's; see `check_seal`."""
        ...

    async def buckets(self, account: str) -> list[Bucket]:
        """All of an account, by name."""
        ...

    async def set_bucket(
        self,
        account: str,
        bucket: str,
        *,
        versioning: Literal["", "enabled", "suspended"] = "",
        lock: bool | None = None,
        settings: Mapping[str, bytes | None],
    ) -> Bucket:
        """See `SetBucket`."""
        ...

    async def drop_bucket(self, account: str, bucket: str) -> None:
        """See `DropBucket`."""
        ...

    async def put(
        self,
        account: str,
        bucket: str,
        key: str,
        body: Body,
        finish: Finish,
        *,
        head: Head,
        marks: Marks,
        lock: Lock = NO_LOCK,
        only_if: If = ALWAYS,
    ) -> Entry:
        """Store an object. It is there, whole, when this returns, and not at all where it raises."""
        ...

    async def entry(self, account: str, bucket: str, key: str, version: str = "") -> Entry:
        """Look up the latest version, or one ("null": that one). A delete marker is answered as one."""
        ...

    def read(self, account: str, bucket: str, entry: Entry, start: int, stop: int) -> Body:
        """Yield the bytes from `start` up to `stop` of a version, each piece of them checked before it is yielded."""
        ...

    async def mark(
        self,
        account: str,
        bucket: str,
        entry: Entry,
        *,
        marks: Marks | None = None,
        retention: Retention | None = None,
        until_ms: int = 0,
        hold: bool | None = None,
        bypass: bool = False,
    ) -> Entry:
        """Change marks, retention, hold, each by itself; see `SetObject`. Marks were made of the entry's."""
        ...

    async def delete(
        self, account: str, bucket: str, deletions: Sequence[Deleting], *, bypass: bool = False, purge: bool = False
    ) -> list[Gone]:
        """See `DeleteObjects`."""
        ...

    async def unpurged(self, account: str, bucket: str) -> Unpurged:
        """See `GetUnpurged`."""
        ...

    async def names(
        self,
        account: str,
        bucket: str,
        *,
        prefix: str = "",
        delimiter: str = "",
        after: str = "",
        after_version: str = "",
        versions: bool = False,
        limit: int = 1000,
    ) -> Listing:
        """List names behind `after`, for any delimiter; folders are beginnings up to and with the delimiter."""
        ...

    async def begin(
        self, account: str, bucket: str, key: str, *, head: Head, marks: Marks, lock: Lock = NO_LOCK
    ) -> str:
        """Begin an upload in parts; returns its id."""
        ...

    async def begun(self, account: str, bucket: str, key: str, upload: str) -> Begun:
        """Look an upload up."""
        ...

    async def put_part(
        self, account: str, bucket: str, key: str, upload: str, number: int, body: Body, finish: Finish
    ) -> StoredPart:
        """Store a part; one of its number before it is replaced."""
        ...

    async def parts(
        self, account: str, bucket: str, key: str, upload: str, *, after: int = 0, limit: int = 1000
    ) -> list[tuple[StoredPart, Mapping[str, str]]]:
        """Parts by number, with their checksums."""
        ...

    async def complete(
        self,
        account: str,
        bucket: str,
        key: str,
        upload: str,
        parts: Sequence[tuple[int, str]],
        *,
        head: Head,
        only_if: If = ALWAYS,
    ) -> Entry:
        """Make the object of these parts (number, ETag)."""
        ...

    async def abort(self, account: str, bucket: str, key: str, upload: str) -> None:
        """Give an upload up."""
        ...

    async def uploads(
        self, account: str, bucket: str, *, prefix: str = "", after: str = "", after_upload: str = "", limit: int = 1000
    ) -> list[Begun]:
        """Uploads by name and id, behind these."""
        ...
