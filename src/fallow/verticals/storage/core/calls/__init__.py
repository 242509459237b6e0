"""What clients of objects ask of the network's side of storage. Pure.

Names, heads and tags are sealed by whoever asks; the network keeps them, and sees their order, lengths and every "/".
`account` is the bucket's owner, in whose name is asked: gateways that let others in judge that themselves.

A version's bytes lie inline, or in segments under a `stream` (16 bytes, drawn by who writes), each with its `part`
(of a multipart upload, from 1; 0: of a plain one) and its `index` in that, from 0.
"""

from __future__ import annotations

from typing import Any, Final

from fallow.verticals.storage.core.calls.accounts import RevokeGrant, Usage
from fallow.verticals.storage.core.calls.base import Call
from fallow.verticals.storage.core.calls.buckets import DropBucket, GetBucket, ListBuckets, MakeBucket, SetBucket
from fallow.verticals.storage.core.calls.objects import (
    DeleteObjects,
    GetObject,
    GetUnpurged,
    ListObjects,
    PutObject,
    SetObject,
)
from fallow.verticals.storage.core.calls.segments import BeginSegment, EndSegment, MorePlaces, ReadSegments, SayAltered
from fallow.verticals.storage.core.calls.uploads import (
    AbortUpload,
    BeginUpload,
    CompleteUpload,
    GetUpload,
    ListParts,
    ListUploads,
    PutPart,
)

CALLS: Final[tuple[type[Call[Any]], ...]] = (
    MakeBucket, GetBucket, ListBuckets, SetBucket, DropBucket,
    PutObject, GetObject, SetObject, DeleteObjects, GetUnpurged, ListObjects,
    BeginUpload, GetUpload, PutPart, ListParts, ListUploads, CompleteUpload, AbortUpload,
    BeginSegment, MorePlaces, EndSegment, ReadSegments, SayAltered,
    Usage, RevokeGrant,
)  # fmt: skip
