"""Calls about uploads in parts."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final

import msgspec
from msgspec import Meta

from fallow.domain.records import Count
from fallow.verticals.storage.core.calls.base import PAGE_MAX, PARTS_MAX, Call, ETag, Head, Id, Part, Retention, Sealed
from fallow.verticals.storage.core.calls.objects import If, Version

UPLOADS_PAGE_MAX: Final = 32
"""With all their heads and tags: no more go over the bus in one answer."""

PART_HEAD_BYTES_MAX: Final = 512
"""An ETag, and checksums of each kind."""


class Upload(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An upload in parts. `stream` is the object's to be, and its id."""

    stream: Id
    object: bytes
    made_ms: int
    head: bytes = b""
    tags: bytes = b""


class StoredPart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A part that is stored. `head` is sealed: checksums."""

    number: int
    size: int
    etag: str
    made_ms: int
    head: bytes = b""


class BeginUpload(Call[Upload], frozen=True, kw_only=True):
    """Begin an upload in parts; `stream` is drawn by who asks, the same again answers the same.

    InsufficientFunds as `BeginSegment`. TooMuch: `storage.uploads`: the account has as many open as it may have.
    """

    name: ClassVar[str] = "upload.begin"
    reply: ClassVar[Any] = Upload
    bucket: str
    object: Sealed
    slashes: Annotated[list[int], Meta(max_length=1024)] = []
    stream: Id
    head: Head = b""
    tags: Head = b""
    retention: Retention = ""
    until_ms: Count = 0
    hold: bool = False


class GetUpload(Call[Upload], frozen=True, kw_only=True):
    """Look an upload up. NotFound: `storage.no_upload`."""

    name: ClassVar[str] = "upload.get"
    reply: ClassVar[Any] = Upload
    bucket: str
    object: Sealed
    stream: Id


class PutPart(Call[StoredPart], frozen=True, kw_only=True):
    """A part is stored: its segments are those under the stream `bytes_of`, which becomes the upload's.

    Where an `object` is named, the upload must be of that one; who asks by a grant has to name it.

    A part of the same number before it is dropped. NotFound: `storage.no_upload`. Conflict: `storage.incomplete`.
    TooMuch: `storage.kept_full`, as `PutObject`.
    """

    name: ClassVar[str] = "upload.part"
    reply: ClassVar[Any] = StoredPart
    bucket: str
    object: Sealed = b""
    stream: Id
    bytes_of: Id
    number: Annotated[int, Meta(ge=1, le=PARTS_MAX)]
    size: Count
    etag: ETag
    head: Annotated[bytes, Meta(max_length=PART_HEAD_BYTES_MAX)] = b""


class ListParts(Call[list[StoredPart]], frozen=True, kw_only=True):
    """Parts of an upload by number, from the first one above `after` on. `object` as for `PutPart`."""

    name: ClassVar[str] = "upload.parts"
    reply: ClassVar[Any] = list[StoredPart]
    bucket: str
    object: Sealed = b""
    stream: Id
    after: Part = 0
    limit: Annotated[int, Meta(ge=1, le=PAGE_MAX)] = PAGE_MAX


class ListUploads(Call[list[Upload]], frozen=True, kw_only=True):
    """Uploads of a bucket by sealed name and stream, behind these."""

    name: ClassVar[str] = "upload.list"
    reply: ClassVar[Any] = list[Upload]
    bucket: str
    prefix: Sealed = b""
    after: Sealed = b""
    after_stream: bytes = b""
    limit: Annotated[int, Meta(ge=1, le=UPLOADS_PAGE_MAX)] = UPLOADS_PAGE_MAX


class CompleteUpload(Call[Version], frozen=True, kw_only=True):
    """Make a version of these parts, in this order, which ascends; others are dropped. Once done it answers the same.

    NotFound: `storage.no_upload`. InvalidInput: `storage.part` (one is not there, or has another ETag).
    TooMuch: `storage.kept_full`, as `PutObject`.
    """

    name: ClassVar[str] = "upload.complete"
    reply: ClassVar[Any] = Version
    bucket: str
    object: Sealed
    stream: Id
    parts: Annotated[list[tuple[Part, ETag]], Meta(min_length=1, max_length=PARTS_MAX)]
    etag: ETag
    head: Head = b""
    only_if: If = If()


class AbortUpload(Call[None], frozen=True, kw_only=True):
    """Give an upload up, and delete its parts, at once and not by the trash. NotFound: `storage.no_upload`."""

    name: ClassVar[str] = "upload.abort"
    reply: ClassVar[Any] = None
    bucket: str
    object: Sealed
    stream: Id
