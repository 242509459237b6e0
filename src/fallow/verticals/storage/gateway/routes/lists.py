"""Lists of objects and of their versions."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Final, NamedTuple
from urllib.parse import quote

from fallow.verticals.storage.client.store import Entry, Listing
from fallow.verticals.storage.gateway.access import check, on_bucket
from fallow.verticals.storage.gateway.acl import owner_node
from fallow.verticals.storage.gateway.errors import S3Error
from fallow.verticals.storage.gateway.exchange import Exchange, acl_of_entry, check_version
from fallow.verticals.storage.gateway.heads import kind_of
from fallow.verticals.storage.gateway.numbers import whole
from fallow.verticals.storage.gateway.respond import Response, answer
from fallow.verticals.storage.gateway.times import iso
from fallow.verticals.storage.gateway.xml import Node

PAGE_MAX: Final = 1000
_INT_MAX: Final = 2**31 - 1


class _Asked(NamedTuple):
    """What all lists are asked for. `limit` is what was asked, `page` what is given."""

    prefix: str
    delimiter: str
    limit: int
    encoding: str

    @property
    def page(self) -> int:
        return min(self.limit, PAGE_MAX)

    @property
    def encoded(self) -> Callable[[str], str]:
        """How names are written."""
        return encoder(self.encoding)


async def list_objects(x: Exchange) -> Response:
    """The first version of the list: pages by a marker."""
    check(x, "s3:ListBucket", "READ", on_bucket(x))
    asked, marker = _asked(x), x.request.arg("marker")
    _check_unordered(x, asked)
    listing = await _page(x, asked, after=marker)
    said = asked.encoded
    more = [Node("NextMarker", said(listing.after))] if listing.more else []
    return answer(
        "ListBucketResult",
        *_begin(x, asked, listing),
        Node("Marker", said(marker)),
        *more,
        *[await _entry_node(x, entry, said, owner=True) for entry in listing.entries],
        *_folders(listing, said),
    )


async def list_objects_2(x: Exchange) -> Response:
    """The second one: pages by a token that says nothing to others."""
    check(x, "s3:ListBucket", "READ", on_bucket(x))
    asked, start = _asked(x), x.request.arg("start-after")
    _check_unordered(x, asked)
    token = x.request.arg("continuation-token")
    listing = await _page(x, asked, after=_read_token(token) if token else start)
    said, owner = asked.encoded, x.request.arg("fetch-owner") == "true"
    echoed = [Node("ContinuationToken", token)] if x.request.has("continuation-token") else []
    echoed += [Node("StartAfter", said(start))] if x.request.has("start-after") else []
    echoed += [Node("NextContinuationToken", _token(listing.after))] if listing.more else []
    return answer(
        "ListBucketResult",
        *_begin(x, asked, listing),
        Node("KeyCount", len(listing.entries) + len(listing.folders)),
        *echoed,
        *[await _entry_node(x, entry, said, owner=owner) for entry in listing.entries],
        *_folders(listing, said),
    )


async def list_versions(x: Exchange) -> Response:
    """All versions, and the marks of deletions."""
    check(x, "s3:ListBucketVersions", "READ", on_bucket(x))
    asked = _asked(x)
    after, after_version = x.request.arg("key-marker"), x.request.arg("version-id-marker")
    if after_version and not after:
        raise S3Error("InvalidArgument", "A version-id-marker needs a key-marker.")
    check_version(after_version)
    listing = await _page(x, asked, after=after, after_version=after_version, versions=True)
    said = asked.encoded
    more = []
    if listing.more:
        more = [Node("NextKeyMarker", said(listing.after)), Node("NextVersionIdMarker", listing.after_version or None)]
    return answer(
        "ListVersionsResult",
        *_begin(x, asked, listing),
        Node("KeyMarker", said(after)),
        Node("VersionIdMarker", after_version),
        *more,
        *[await _version_node(x, entry, said) for entry in listing.entries],
        *_folders(listing, said),
    )


def read_limit(text: str, name: str) -> int:
    """Read how many of something are asked for.

    Raises:
        S3Error: InvalidArgument.
    """
    if not text:
        return PAGE_MAX
    number = whole(text)
    if number is None or number > _INT_MAX:
        raise S3Error("InvalidArgument", f"{name} is a number from 0 to {_INT_MAX}.")
    return number


def encoder(encoding: str) -> Callable[[str], str]:
    """How names are written under an encoding that was asked for, "" for none."""
    return (lambda text: quote(text, "/")) if encoding else (lambda text: text)


def read_encoding(x: Exchange) -> str:
    """Read how names are to be written.

    Raises:
        S3Error: InvalidArgument.
    """
    encoding = x.request.arg("encoding-type")
    if encoding not in {"", "url"}:
        raise S3Error("InvalidArgument", "The one encoding-type is url.")
    return encoding


def _asked(x: Exchange) -> _Asked:
    limit = read_limit(x.request.arg("max-keys"), "max-keys")
    return _Asked(x.request.arg("prefix"), x.request.arg("delimiter"), limit, read_encoding(x))


def _check_unordered(x: Exchange, asked: _Asked) -> None:
    """Lists are always in order here; where a client allows others, S3's sense of it still holds."""
    if x.request.arg("allow-unordered") == "true" and asked.delimiter:
        raise S3Error("InvalidArgument", "An unordered list has no delimiter.")


async def _page(x: Exchange, asked: _Asked, *, after: str, after_version: str = "", versions: bool = False) -> Listing:
    if not asked.page:
        return Listing((), (), False, "", "")
    return await x.store.names(
        x.owner,
        x.bucket.name,
        prefix=asked.prefix,
        delimiter=asked.delimiter,
        after=after,
        after_version=after_version,
        versions=versions,
        limit=asked.page,
    )


def _begin(x: Exchange, asked: _Asked, listing: Listing) -> list[Node]:
    nodes = [
        Node("Name", x.bucket.name),
        Node("Prefix", asked.encoded(asked.prefix)),
        Node("MaxKeys", asked.limit),
        Node("IsTruncated", listing.more),
    ]
    nodes += [Node("Delimiter", asked.encoded(asked.delimiter))] if asked.delimiter else []
    return nodes + ([Node("EncodingType", asked.encoding)] if asked.encoding else [])


def _folders(listing: Listing, said: Callable[[str], str]) -> list[Node]:
    return [Node("CommonPrefixes", None, Node("Prefix", said(folder))) for folder in listing.folders]


async def _entry_node(x: Exchange, entry: Entry, said: Callable[[str], str], *, owner: bool) -> Node:
    nodes = [Node("Key", said(entry.key)), *_common(entry)]
    nodes += [await owner_node(acl_of_entry(entry, x.bucket).owner, x.users)] if owner else []
    return Node("Contents", None, *nodes)


async def _version_node(x: Exchange, entry: Entry, said: Callable[[str], str]) -> Node:
    nodes = [
        Node("Key", said(entry.key)),
        Node("VersionId", entry.version),
        Node("IsLatest", entry.latest),
        *([Node("LastModified", iso(entry.made_ms))] if entry.marker else _common(entry)),
        await owner_node(acl_of_entry(entry, x.bucket).owner, x.users),
    ]
    return Node("DeleteMarker" if entry.marker else "Version", None, *nodes)


def _common(entry: Entry) -> list[Node]:
    sums = [Node("ChecksumAlgorithm", name.upper()) for name in entry.head.checksums]
    if sums:
        sums.append(Node("ChecksumType", kind_of(entry.head)))
    return [
        Node("LastModified", iso(entry.made_ms)),
        Node("ETag", f'"{entry.head.etag}"'),
        *sums,
        Node("Size", entry.size),
        Node("StorageClass", "STANDARD"),
    ]


def _token(after: str) -> str:
    return base64.urlsafe_b64encode(after.encode()).decode()


def _read_token(token: str) -> str:
    try:
        return base64.b64decode(token, b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise S3Error("InvalidArgument", "The continuation token is not one of ours.") from error
