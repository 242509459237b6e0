"""What clients of objects ask of the network's side of storage. Pure.

Names, heads and tags are sealed by whoever asks; the network keeps them, and sees their order, lengths and every "/".
`account` is the bucket's owner, in whose name is asked: gateways that let others in judge that themselves.

A version's bytes lie inline, or in segments under a `stream` (16 bytes, drawn by who writes), each with its `part`
(of a multipart upload, from 1; 0: of a plain one) and its `index` in that, from 0.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta

from fallow.domain.facts import NodeId
from fallow.domain.records import Count
from fallow.domain.streams import DirectAddress
from fallow.verticals.storage.core.layout import SEGMENT_BYTES

SUBJECT: Final = "vertical.storage"
"""Calls go to `SUBJECT.name`."""
INLINE_BYTES_MAX: Final = 16 << 10
"""Sealed; such an object needs no node."""
NAME_BYTES_MAX: Final = 2048
"""Sealed."""
PAGE_MAX: Final = 1000
PARTS_MAX: Final = 10_000
UPLOADS_PAGE_MAX: Final = 32
"""With all their heads and tags: no more go over the bus in one answer."""
USAGE_DAYS_MAX: Final = 400
USAGE_BUCKETS_MAX: Final = 10
"""With so many days, as above."""
LAST_DAY: Final = 2_932_896
"""The last day of the year 9999, which is the last one that there are dates for."""
HEAD_BYTES_MAX: Final = 12 << 10
PART_HEAD_BYTES_MAX: Final = 512
"""An ETag, and checksums of each kind."""
SETTING_BYTES_MAX: Final = 64 << 10
SEGMENTS_AT_ONCE: Final = 8
PLACES_AT_ONCE: Final = 360
"""With 2.8 kB each, 2 KiB of which are a certificate that the node chooses, they go over the bus in one answer."""

ReplyT = TypeVar("ReplyT")

BucketName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{2,254}$(?!\n)")]
Id = Annotated[bytes, Meta(min_length=16, max_length=16)]
Sealed = Annotated[bytes, Meta(max_length=NAME_BYTES_MAX)]
"""A name, sealed: two bytes for one."""
Head = Annotated[bytes, Meta(max_length=HEAD_BYTES_MAX)]
ETag = Annotated[str, Meta(max_length=80)]
Part = Annotated[int, Meta(ge=0, le=PARTS_MAX)]
Day = Annotated[int, Meta(ge=0, le=LAST_DAY)]
"""Since 1970, UTC."""
Payload = Annotated[int, Meta(ge=1, le=SEGMENT_BYTES)]
Pieces = Annotated[int, Meta(ge=1, le=255)]
Versioning = Literal["off", "enabled", "suspended"]
Retention = Literal["", "governance", "compliance"]


class Call(msgspec.Struct, Generic[ReplyT], frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of what is asked. `name` is the end of its subject, `reply` what it is answered with.

    `account` and `by_grant` are set by whoever admits the call: in whose name it is asked, and for one that was shown a
    grant, the first link of its chain (empty: none was).
    """

    name: ClassVar[str]
    reply: ClassVar[Any]
    account: str
    by_grant: Annotated[bytes, Meta(max_length=16)] = b""


class Bucket(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A bucket. `settings` are documents of gateways (policy, cors, lifecycle, acl ...), which the network only keeps.

    `profile` names how its objects are coded, `countries` where their pieces may lie (empty: anywhere). With `lock`
    versions can be retained.
    """

    name: str
    account: str
    made_ms: int
    profile: str
    countries: list[str] = []
    versioning: Versioning = "off"
    lock: bool = False
    settings: dict[str, bytes] = {}


class MakeBucket(Call[Bucket], frozen=True, kw_only=True):
    """Make a bucket. Names are unique in a network.

    Conflict: `storage.bucket_yours`, `storage.bucket_taken`. InsufficientFunds: `storage.no_subscription`.
    TooMuch: `storage.buckets`: the account has as many as it may have.
    """

    name: ClassVar[str] = "bucket.make"
    reply: ClassVar[Any] = Bucket
    bucket: BucketName
    profile: str = ""
    countries: Annotated[list[Annotated[str, Meta(pattern=r"^[A-Z]{2}$(?!\n)")]], Meta(max_length=64)] = []
    lock: bool = False
    settings: Annotated[dict[str, Annotated[bytes, Meta(max_length=SETTING_BYTES_MAX)]], Meta(max_length=16)] = {}


class GetBucket(Call[Bucket], frozen=True, kw_only=True):
    """Look a bucket up; `account` is who asks. NotFound: `storage.no_bucket`. NotAllowed: `storage.not_yours`.

    A gateway asks as "", sees any bucket, and judges itself who may see what of it. The control API asks as the account
    of an API key, which sees its own buckets only: the settings of others say whom they let in.
    """

    name: ClassVar[str] = "bucket.get"
    reply: ClassVar[Any] = Bucket
    bucket: str


class ListBuckets(Call[list[Bucket]], frozen=True, kw_only=True):
    """An account's buckets by name, from the first one above `after` on, without their settings."""

    name: ClassVar[str] = "bucket.list"
    reply: ClassVar[Any] = list[Bucket]
    after: str = ""
    limit: Annotated[int, Meta(ge=1, le=PAGE_MAX)] = PAGE_MAX


class SetBucket(Call[Bucket], frozen=True, kw_only=True):
    """Change a bucket; a setting that is None is dropped. Versioning never goes back to "off"."""

    name: ClassVar[str] = "bucket.set"
    reply: ClassVar[Any] = Bucket
    bucket: str
    versioning: Literal["", "enabled", "suspended"] = ""
    lock: bool | None = None
    settings: Annotated[
        dict[str, Annotated[bytes, Meta(max_length=SETTING_BYTES_MAX)] | None], Meta(max_length=16)
    ] = {}


class DropBucket(Call[None], frozen=True, kw_only=True):
    """Drop an empty bucket. Conflict: `storage.bucket_not_empty` (versions count, open uploads do not)."""

    name: ClassVar[str] = "bucket.drop"
    reply: ClassVar[Any] = None
    bucket: str


# Versions


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
    bucket keeps none. The same `stream` again changes nothing and answers the same.

    Raises as `If`; NotFound: `storage.no_bucket`; Conflict: `storage.incomplete` (segments are missing);
    InsufficientFunds as `BeginSegment`, where it is inline.
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
    """

    name: ClassVar[str] = "object.set"
    reply: ClassVar[Any] = Version
    bucket: str
    object: Sealed
    version: bytes = b""
    null: bool = False
    tags: Head | None = None
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

    Codes: `storage.retained`, `storage.no_version`, `storage.condition`. What is not there is deleted without a word.
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


# Multipart uploads


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


# Segments and pieces


class Place(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where piece `number` of a segment is, or may be brought to.

    `limit` is a sealed OrderLimit for the asked client, `ticket` a sealed StreamTicket. `direct` is where the node can
    be dialled itself, if it can.
    """

    number: int
    node: NodeId
    limit: bytes
    ticket: bytes
    direct: DirectAddress | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How a segment is to be stored: as `pieces` pieces of which any `needed` suffice; at least `enough` must be."""

    segment: Id
    needed: Pieces
    pieces: Pieces
    enough: Pieces
    places: list[Place]


class BeginSegment(Call[Plan], frozen=True, kw_only=True):
    """Begin to store a segment of `payload` bytes in a bucket; `client` is the key that will sign orders and claims.

    The places are on distinct owners and networks, and where the bucket says so in its countries. There may be more
    than `pieces`: those with a `number` beyond are spare, for any piece whose own place is slow or fails (a limit is
    for one node and one piece id, which follows from segment and node, whatever the piece's number). Of the same
    (stream, part, index) anew the earlier one is dropped.

    Unavailable: `storage.too_few_nodes`. InsufficientFunds: `storage.no_subscription`, `storage.suspended`. TooMuch:
    `storage.too_much_begun`.
    """

    name: ClassVar[str] = "segment.begin"
    reply: ClassVar[Any] = Plan
    bucket: str
    stream: Id
    part: Part = 0
    index: Count = 0
    payload: Payload
    client: NodeId
    key: Annotated[bytes, Meta(max_length=128)]


class MorePlaces(Call[list[Place]], frozen=True, kw_only=True):
    """Further places for pieces whose nodes failed: others than those that the segment's plan had."""

    name: ClassVar[str] = "segment.more"
    reply: ClassVar[Any] = list[Place]
    segment: Id
    numbers: Annotated[list[int], Meta(min_length=1, max_length=255)]


class EndSegment(Call[None], frozen=True, kw_only=True):
    """A segment is stored: the sealed PieceReceipts of its pieces, by number.

    InvalidInput: `storage.receipts` (they do not hold). Conflict: `storage.too_few_pieces`.
    """

    name: ClassVar[str] = "segment.end"
    reply: ClassVar[Any] = None
    segment: Id
    receipts: Annotated[dict[int, Annotated[bytes, Meta(max_length=1024)]], Meta(min_length=1, max_length=255)]


class SegmentRead(msgspec.Struct, frozen=True, kw_only=True):
    """A segment to read: `start` is where its payload begins in the version's bytes."""

    segment: Id
    part: Part
    index: Count
    start: Count
    payload: Payload
    key: bytes
    needed: Pieces
    pieces: Pieces
    places: list[Place]


class ReadSegments(Call[list[SegmentRead]], frozen=True, kw_only=True):
    """How bytes `start` up to `stop` of a version are read: the first segments that hold of them.

    These are `SEGMENTS_AT_ONCE` at most, and as many as have `PLACES_AT_ONCE` together, but for one that has more.
    `version` is the one that is read, by its id. Places are those of nodes that seem to be there,
    data pieces first, each limit for what of its piece is needed. NotFound: `storage.no_version`. InsufficientFunds:
    `storage.suspended`.
    """

    name: ClassVar[str] = "segment.read"
    reply: ClassVar[Any] = list[SegmentRead]
    bucket: str
    object: Sealed
    version: Id
    start: Count
    stop: Count
    client: NodeId


# What was used


class UsedDay(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a bucket used on a `day` (since 1970, UTC): bytes of pieces and of payload times hours, bytes read.

    `requests` are counted by kind (put, get, list). `cost_microusd` is by the tariff, rounded down once a meter.
    """

    day: int
    stored_byte_hours: int = 0
    payload_byte_hours: int = 0
    egress_bytes: int = 0
    requests: dict[str, int] = {}
    cost_microusd: int = 0


class UsedBucket(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a bucket used, by day, and the `objects` and `bytes` that it holds now. A dropped one has no name."""

    id: int
    bucket: str = ""
    objects: int = 0
    bytes: int = 0
    days: list[UsedDay] = []


class Usage(Call[list[UsedBucket]], frozen=True, kw_only=True):
    """What buckets of an account used from one day to another, both counted; those behind an id, a page at a time.

    A page holds `USAGE_BUCKETS_MAX`. Buckets that were dropped are there while one of these days is theirs.

    InvalidInput: `storage.days`.
    """

    name: ClassVar[str] = "usage"
    reply: ClassVar[Any] = list[UsedBucket]
    from_day: Day
    to_day: Day
    after: Count = 0


# Grants


class RevokeGrant(Call[None], frozen=True, kw_only=True):
    """End a grant of the account, by its id, and all that was made of it. Once done it stays done.

    TooMuch: `storage.revoked`: so many are revoked that the API key is to be ended instead, and with it all its grants.
    """

    name: ClassVar[str] = "grant.revoke"
    reply: ClassVar[Any] = None
    grant: Id


CALLS: Final[tuple[type[Call[Any]], ...]] = (
    MakeBucket, GetBucket, ListBuckets, SetBucket, DropBucket,
    PutObject, GetObject, SetObject, DeleteObjects, GetUnpurged, ListObjects,
    BeginUpload, GetUpload, PutPart, ListParts, ListUploads, CompleteUpload, AbortUpload,
    BeginSegment, MorePlaces, EndSegment, ReadSegments,
    Usage, RevokeGrant,
)  # fmt: skip
