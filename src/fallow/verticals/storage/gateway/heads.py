"""What comes with an object: in a request's headers, kept as a `Head`, and given back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from fallow.verticals.storage.client.store import Entry, Head
from fallow.verticals.storage.core.calls.buckets import Bucket
from fallow.verticals.storage.gateway import encryption
from fallow.verticals.storage.gateway.checksums import COMPOSITE, FULL_OBJECT, HEADER, written
from fallow.verticals.storage.gateway.errors import S3Error
from fallow.verticals.storage.gateway.expiry import goes_at
from fallow.verticals.storage.gateway.lifecycle import LIFECYCLE, decode_lifecycle
from fallow.verticals.storage.gateway.times import http, iso
from fallow.verticals.storage.gateway.xml import Node

METADATA_BYTES_MAX: Final = 2048
META: Final = "x-amz-meta-"
_KEPT: Final = (
    "content-type", "cache-control", "content-disposition", "content-encoding", "content-language", "expires",
    "x-amz-website-redirect-location",
)  # fmt: skip
_KEPT_BYTES_MAX: Final = 6144
PART_SUMS_BYTES_MAX: Final = 2560
"""What the longest headers leave of `HEAD_BYTES_MAX`: 640 parts by CRC32, 80 by SHA-256."""
_OFFSET: Final = "x-amz-write-offset-bytes"
_LOCK: Final = "x-amz-object-lock-"
_LOCKS: Final = frozenset({f"{_LOCK}mode", f"{_LOCK}retain-until-date", f"{_LOCK}legal-hold"})
_CHUNKED: Final = "aws-chunked"
_DEFAULT_TYPE: Final = "binary/octet-stream"
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]*")
"""What a header's name may hold."""
_UNREADABLE: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def head_of(headers: Mapping[str, str]) -> Head:
    """Read what is to be kept of headers.

    Raises:
        S3Error: MetadataTooLarge, InvalidArgument, InvalidStorageClass, NotImplemented.
    """
    check_storage(headers)
    kept = {name: headers[name] for name in _KEPT if headers.get(name)}
    if "content-encoding" in kept:
        kept["content-encoding"] = _without_chunked(kept["content-encoding"])
        if not kept["content-encoding"]:
            del kept["content-encoding"]
    metadata = {name.removeprefix(META): value for name, value in headers.items() if name.startswith(META)}
    for name, value in (*kept.items(), *metadata.items()):
        if not _NAME.fullmatch(name) or _UNREADABLE.search(value):
            raise S3Error("InvalidArgument", f"The header {name} holds characters that none may.")
    if _size(metadata) > METADATA_BYTES_MAX or _size(kept) > _KEPT_BYTES_MAX:
        raise S3Error("MetadataTooLarge")
    return Head(headers=kept, metadata=metadata)


def check_storage(headers: Mapping[str, str]) -> None:
    """Refuse what is not kept here as it was asked for.

    Raises:
        S3Error: InvalidStorageClass, InvalidArgument, NotImplemented.
    """
    if headers.get("x-amz-storage-class", "STANDARD") != "STANDARD":
        raise S3Error("InvalidStorageClass")
    if _OFFSET in headers:
        raise S3Error("NotImplemented", "Nothing is added to an object here: it is written as a whole, or in parts.")
    if any(name.startswith(_LOCK) and name not in _LOCKS for name in headers):
        raise S3Error("NotImplemented", "Of an object's lock there are a mode, a date, and a legal hold.")
    encryption.check_written(headers)


def version_headers(entry: Entry, bucket: Bucket) -> dict[str, str]:
    """Which version was read; nothing in a bucket that keeps none."""
    return {} if bucket.versioning == "off" else {"x-amz-version-id": entry.version}


def written_headers(entry: Entry, bucket: Bucket) -> dict[str, str]:
    """What is said of a version that was written."""
    headers = (
        {**encryption.SAID, "etag": f'"{entry.head.etag}"'}
        | checksum_headers(entry.head, entry.head.checksums)
        | _expiry_headers(entry, bucket)
    )
    return headers | ({"x-amz-version-id": entry.version} if bucket.versioning == "enabled" else {})


def checksum_headers(head: Head, sums: Mapping[str, str]) -> dict[str, str]:
    """Checksums that are kept: the object's, or a part's."""
    kind = {f"{HEADER}type": kind_of(head)} if sums else {}
    return {f"{HEADER}{name}": value for name, value in sums.items()} | kind


def part_sums(entry: Entry) -> list[dict[str, str]]:
    """The checksums of each of an object's parts; of none where they were too many to be kept."""
    digests, algorithms = entry.head.part_sums, list(entry.head.checksums)
    if not digests or not entry.parts or len(algorithms) != 1:
        return [{} for _ in entry.parts]
    size = len(digests) // len(entry.parts)
    return [{algorithms[0]: written(digests[at : at + size])} for at in range(0, size * len(entry.parts), size)]


def kind_of(head: Head) -> str:
    """Of what the checksums are that are kept."""
    return COMPOSITE if head.composite else FULL_OBJECT


def sum_nodes(sums: Mapping[str, str]) -> list[Node]:
    """The elements of checksums, by algorithm."""
    return [Node(f"Checksum{name.upper()}", value) for name, value in sums.items()]


def entry_headers(entry: Entry, bucket: Bucket) -> dict[str, str]:
    """All headers of an object that is read, but for its length, range and checksums."""
    head = entry.head
    headers = {"content-type": _DEFAULT_TYPE} | head.headers | encryption.SAID
    headers |= {f"{META}{name}": value for name, value in head.metadata.items()}
    headers |= {"etag": f'"{head.etag}"', "last-modified": http(entry.made_ms), "accept-ranges": "bytes"}
    headers |= version_headers(entry, bucket) | (_expiry_headers(entry, bucket) if entry.latest else {})
    if entry.marks.tags:
        headers["x-amz-tagging-count"] = str(len(entry.marks.tags))
    lock = entry.lock
    if lock.retention:
        headers["x-amz-object-lock-mode"] = lock.retention.upper()
        headers["x-amz-object-lock-retain-until-date"] = iso(lock.until_ms)
    if bucket.lock and (lock.hold or lock.retention):
        headers["x-amz-object-lock-legal-hold"] = "ON" if lock.hold else "OFF"
    return headers


def _expiry_headers(entry: Entry, bucket: Bucket) -> dict[str, str]:
    """When the latest version goes by itself; nothing where it stays."""
    at = goes_at(decode_lifecycle(bucket.settings.get(LIFECYCLE, b"")), entry)
    return {} if at is None else {"x-amz-expiration": f'expiry-date="{http(at[0])}", rule-id="{quote(at[1])}"'}


def _without_chunked(encoding: str) -> str:
    return ", ".join(part for part in (part.strip() for part in encoding.split(",")) if part != _CHUNKED)


def _size(fields: Mapping[str, str]) -> int:
    return sum(len(name) + len(value) for name, value in fields.items())
