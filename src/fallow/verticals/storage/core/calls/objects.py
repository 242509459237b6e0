"""Calls about objects, and the versions of each."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final

import msgspec
from msgspec import Meta

from fallow.domain.records import Count
from fallow.verticals.storage.core.calls.base import NAME_BYTES_MAX, PAGE_MAX, Call, ETag, Head, Id, Retention, Sealed

INLINE_BYTES_MAX: Final = 16 << 10
"""Sealed; such an object needs no node."""
KEPT_BYTES_MAX: Final = 1 << 30
"""What an account may keep in the network's own database, about, that no bytes on nodes pay for.

Beyond it small objects go to nodes, too. Delete markers, empty objects, and what takes more room beside its bytes than
they do, are kept up to twice as much.
"""
INLINE_FULL: Final = "storage.inline_full"
"""By this error who stores inline is told to store segments instead."""


class Version(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One version of an object, or a delete `marker`. `name` is sealed.

    `version` is its id (16 bytes, later ones are greater); `null`: it is known as "null", too. `stream` holds its
    segments where it is not `inline`. `parts`: the bytes of each part that it was made of, by number. `head` and
    `tags` are sealed documents of gateways: the head comes with the bytes and stays, tags (and `acl`) can be changed.
    """

    name: bytes
    version: Id
    null: bool = False
    marker: bool = False
    latest: bool = False
    size: int = 0
    made_ms: int = 0
    etag: str = ""
    head: bytes = b""
    tags: bytes = b""
    stream: bytes = b""
    inline: bytes | None = None
    key: bytes = b""
    parts: list[tuple[int, int]] = []
    retention: Retention = ""
    until_ms: int = 0
    hold: bool = False


class If(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A write's condition on the version that is the latest: its ETag, that there is none, its time, its size.

    Where one version is deleted for good it is on that one; `older`: that it is not the latest object.
    `etag` "*": that there is any (a delete marker is none). Conflict: `storage.condition`; where `etag` is given and
    there is no object, NotFound: `storage.no_object`.
    """

    etag: ETag = ""
    absent: bool = False
    modified_ms: int | None = None
    size: int | None = None
    older: bool = False


class PutObject(Call[Version], frozen=True, kw_only=True):
    """Make a version the latest one, in one step: its segments are stored, or it is inline.

    `slashes` are the bytes of the sealed name behind which a "/" of the name ends, ascending: what lists between them.
    `key` is what its inline bytes are sealed with, itself sealed. A version that had its place is dropped where the
    bucket keeps none. Without a retention it gets the one that its bucket has by default, as one in parts does (see
    `core.retention`). The same `stream` again changes nothing and answers the same.

    Raises as `If`; NotFound: `storage.no_bucket`; Conflict: `storage.incomplete` (segments are missing);
    InsufficientFunds as `BeginSegment`, where it is inline; TooMuch: `storage.inline_full`: then it is to be stored in
    segments; `storage.kept_full`: see `KEPT_BYTES_MAX`; InvalidInput: `storage.crumbs`: it is in more segments than it
    has kilobytes, and one.
    """

    name: ClassVar[str] = "object.put"
    reply: ClassVar[Any] = Version
    bucket: str
    object: Sealed
    slashes: Annotated[list[Annotated[int, Meta(ge=2, le=2048)]], Meta(max_length=1024)] = []
    stream: Id
    size: Count
    etag: ETag
    head: Head = b""
    tags: Head = b""
    inline: Annotated[bytes, Meta(max_length=INLINE_BYTES_MAX)] | None = None
    key: Annotated[bytes, Meta(max_length=128)] = b""
    retention: Retention = ""
    until_ms: Count = 0
    hold: bool = False
    only_if: If = If()


class GetObject(Call[Version], frozen=True, kw_only=True):
    """The latest version, or one by its id, or (`null`) the one that is known as "null".

    NotFound: `storage.no_object`, `storage.no_version`. A delete marker is answered as one.
    """

    name: ClassVar[str] = "object.get"
    reply: ClassVar[Any] = Version
    bucket: str
    object: Sealed
    version: bytes = b""
    null: bool = False


class SetObject(Call[Version], frozen=True, kw_only=True):
    """Change what can be changed of a version: tags, retention, legal hold. None: as it is.

    A compliance retention is never shortened; a governance one only with `bypass`. NotAllowed: `storage.retained`.
    TooMuch: `storage.kept_full`, as `PutObject`.
    Tags are made of those `before`, where that is said. Conflict: `storage.marks_changed`: they are others by now.
    """

    name: ClassVar[str] = "object.set"
    reply: ClassVar[Any] = Version
    bucket: str
    object: Sealed
    version: bytes = b""
    null: bool = False
    tags: Head | None = None
    before: Head | None = None
    retention: Retention | None = None
    until_ms: Count = 0
    hold: bool | None = None
    bypass: bool = False


class Deletion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One object to delete: with a version (or `null`) that for good, else the latest as the versioning says."""

    object: Sealed
    slashes: Annotated[list[int], Meta(max_length=1024)] = []
    version: bytes = b""
    null: bool = False
    only_if: If = If()


class Deleted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of it. `marker`: a delete marker was made or deleted, `version` says which. `error` is a code."""

    version: bytes = b""
    null: bool = False
    marker: bool = False
    gone: bool = False
    error: str = ""
    message: str = ""


class DeleteObjects(Call[list[Deleted]], frozen=True, kw_only=True):
    """Delete, each by itself; answers stand in their order. `purge`: the nodes overwrite the pieces at once.

    Codes: `storage.retained`, `storage.no_version`, `storage.condition`; for delete markers `storage.kept_full`, as
    `PutObject`. What is not there is deleted without a word.
    """

    name: ClassVar[str] = "object.delete"
    reply: ClassVar[Any] = list[Deleted]
    bucket: str
    deletions: Annotated[list[Deletion], Meta(min_length=1, max_length=PAGE_MAX)]
    bypass: bool = False
    purge: bool = False


class Unpurged(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Pieces that were purged and that their nodes have not said to have overwritten, and how many nodes that are.

    `later` of them could still be brought when they were purged, and are asked for by `due_ms`.
    """

    pieces: int = 0
    nodes: int = 0
    later: int = 0
    due_ms: int = 0


class GetUnpurged(Call[Unpurged], frozen=True, kw_only=True):
    """What of all that was purged in a bucket of the account waits for its nodes; see `DeleteObjects`."""

    name: ClassVar[str] = "object.unpurged"
    reply: ClassVar[Any] = Unpurged
    bucket: str


def behind(sealed: bytes) -> bytes:
    """The greatest name that begins so: what comes behind it does not."""
    return sealed.ljust(NAME_BYTES_MAX, b"\xff")


class Listed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A page, in the order of sealed names; of one name, later versions first. `folders` stand in that order, too.

    A folder is the beginning of names up to and with a "/", as who wrote the first of them says: where others may
    write, who lists holds it against the names. `more`: the page was cut, and goes on behind `after` (and
    `after_version`), which is behind all of the folder that comes last.
    """

    versions: list[Version] = []
    folders: list[bytes] = []
    more: bool = False
    after: bytes = b""
    after_version: bytes = b""


class ListObjects(Call[Listed], frozen=True, kw_only=True):
    """Versions whose sealed names begin with `prefix` and come behind `after`; the latest alone, or `all_versions`.

    With `folders`, names with a "/" behind the prefix are shown as their folder, once; what comes `behind` a folder is
    none of it. Delete markers are shown with `all_versions` only. `after_version` goes on within the versions of
    `after`. No inline bytes come along; `heads` says whether heads do. A page holds `limit` versions and folders
    together, or what fits into 512 KiB.
    """

    name: ClassVar[str] = "object.list"
    reply: ClassVar[Any] = Listed
    bucket: str
    prefix: Sealed = b""
    after: Sealed = b""
    after_version: bytes = b""
    folders: bool = False
    all_versions: bool = False
    heads: bool = False
    limit: Annotated[int, Meta(ge=0, le=PAGE_MAX)] = PAGE_MAX
