"""Objects: written, read, described."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import NamedTuple

from fallow.verticals.storage.client.store import Entry
from fallow.verticals.storage.gateway import encryption
from fallow.verticals.storage.gateway.access import check, missing, on_entry
from fallow.verticals.storage.gateway.body import Content
from fallow.verticals.storage.gateway.conditions import Span, bare, check_read, read_range
from fallow.verticals.storage.gateway.errors import S3Error
from fallow.verticals.storage.gateway.exchange import Exchange, entry_of
from fallow.verticals.storage.gateway.heads import (
    checksum_headers,
    entry_headers,
    head_of,
    kind_of,
    part_sums,
    sum_nodes,
    version_headers,
    written_headers,
)
from fallow.verticals.storage.gateway.numbers import whole
from fallow.verticals.storage.gateway.respond import Response, answer
from fallow.verticals.storage.gateway.routes.lists import PAGE_MAX, read_limit
from fallow.verticals.storage.gateway.times import http
from fallow.verticals.storage.gateway.writes import asked_of
from fallow.verticals.storage.gateway.xml import Node

_OVERRIDES = (
    "cache-control", "content-disposition", "content-encoding", "content-language", "content-type", "expires",
)  # fmt: skip
_PARTS_COUNT = "x-amz-mp-parts-count"


class _Shown(NamedTuple):
    """What is read of an object: its bytes, headers that say which these are, and their checksums, if they are kept."""

    span: Span
    headers: dict[str, str]
    sums: Mapping[str, str]


async def put_object(x: Exchange) -> Response:
    """Store the body as an object."""
    request = x.request
    if request.length is None and request.header("transfer-encoding").lower() != "chunked":
        raise S3Error("MissingContentLength")
    asked = await asked_of(x)
    head = head_of(request.headers)
    content = Content(request, x.caller)
    entry = await x.store.put(
        x.owner,
        x.bucket.name,
        x.key,
        content.chunks(),
        content.finish,
        head=head,
        marks=asked.marks,
        lock=asked.lock,
        only_if=asked.only_if,
    )
    return Response(200, written_headers(entry, x.bucket))


async def get_object(x: Exchange) -> Response:
    """Read an object, or a range or a part of it."""
    entry = await readable(x, "s3:GetObject")
    shown = _shown(x, entry)
    headers = entry_headers(entry, x.bucket) | shown.headers
    if x.request.header("x-amz-checksum-mode").upper() == "ENABLED":
        headers |= checksum_headers(entry.head, shown.sums)
    chosen = {name: x.request.arg(f"response-{name}") for name in _OVERRIDES if x.request.has(f"response-{name}")}
    if chosen and x.caller.user is None:
        raise S3Error("InvalidRequest", "Who is not known cannot choose the answer's headers.")
    headers |= {name: value.encode().decode("latin-1") for name, value in chosen.items()}  # a character for a byte
    status = 206 if "content-range" in headers else 200
    span = shown.span
    return Response(status, headers, _bytes(x, entry, span), span.stop - span.start)


async def readable(x: Exchange, *actions: str) -> Entry:
    """Look the version up that is asked for, and check that the caller may do all this with it, now.

    Raises:
        S3Error: NoSuchKey, NoSuchVersion, MethodNotAllowed (it marks a deletion), AccessDenied, PreconditionFailed,
            InvalidRequest (a key is named).
    """
    encryption.check_read(x.request.headers)
    version = x.request.arg("versionId")
    entry = await entry_of(x, x.bucket, x.key, version)
    if entry is None:
        raise missing(x, x.bucket, x.key, "NoSuchVersion" if version else "NoSuchKey")
    for action in actions:
        named = action.replace("GetObject", "GetObjectVersion") if version else action
        check(x, named, "READ", on_entry(entry, x.bucket, version))
    if entry.marker:
        headers = {"x-amz-delete-marker": "true"} | version_headers(entry, x.bucket)
        if version:
            raise S3Error("MethodNotAllowed", headers=headers | {"last-modified": http(entry.made_ms)})
        raise S3Error("NoSuchKey", headers=headers)
    check_read(entry, x.request.headers)
    return entry


async def attributes(x: Exchange) -> Response:
    """Those of an object's attributes that are asked for."""
    entry = await readable(x, "s3:GetObject", "s3:GetObjectAttributes")
    wanted = {name.strip() for name in x.request.header("x-amz-object-attributes").split(",")}
    known = {"ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"}
    if not wanted <= known:
        raise S3Error("InvalidArgument", "An attribute is ETag, Checksum, ObjectParts, StorageClass or ObjectSize.")
    nodes = [Node("ETag", entry.head.etag)] if "ETag" in wanted else []
    if "Checksum" in wanted and entry.head.checksums:
        kind = Node("ChecksumType", kind_of(entry.head))
        nodes.append(Node("Checksum", None, *sum_nodes(entry.head.checksums), kind))
    if "ObjectParts" in wanted and entry.parts:
        nodes.append(_parts_node(x, entry))
    nodes += [Node("StorageClass", "STANDARD")] if "StorageClass" in wanted else []
    nodes += [Node("ObjectSize", entry.size)] if "ObjectSize" in wanted else []
    headers = {"last-modified": http(entry.made_ms)} | version_headers(entry, x.bucket)
    return answer("GetObjectAttributesResponse", *nodes, headers=headers)


def _parts_node(x: Exchange, entry: Entry) -> Node:
    most = min(read_limit(x.request.header("x-amz-max-parts"), "x-amz-max-parts"), PAGE_MAX)
    after = read_limit(x.request.header("x-amz-part-number-marker") or "0", "x-amz-part-number-marker")
    behind = [(number, size, sums) for (number, size), sums in zip(entry.parts, part_sums(entry), strict=True)]
    behind = [part for part in behind if part[0] > after]
    shown = behind[:most]
    return Node(
        "ObjectParts",
        None,
        Node("PartsCount", len(entry.parts)),
        Node("PartNumberMarker", after),
        Node("NextPartNumberMarker", shown[-1][0] if shown else 0),
        Node("MaxParts", most),
        Node("IsTruncated", len(behind) > len(shown)),
        *[
            Node("Part", None, Node("PartNumber", number), Node("Size", size), *sum_nodes(sums))
            for number, size, sums in shown
        ],
    )


def _shown(x: Exchange, entry: Entry) -> _Shown:
    whole, header = _Shown(Span(0, entry.size), {}, entry.head.checksums), x.request.header("range")
    if x.request.has("partNumber"):
        if header:
            raise S3Error("InvalidRequest", "A range and a part exclude each other.")
        return _part(entry, x.request.arg("partNumber"), whole)
    if not header or not _range_holds(x, entry):
        return whole
    span = read_range(header, entry.size)
    return _Shown(span, _ranged(span, entry), {}) if span else whole


def _range_holds(x: Exchange, entry: Entry) -> bool:
    """Whether If-Range names what is there now."""
    named = x.request.header("if-range")
    return not named or bare(named) == entry.head.etag or named == http(entry.made_ms)


def _part(entry: Entry, text: str, all_of_it: _Shown) -> _Shown:
    number, at = whole(text), 0
    if not number:
        raise S3Error("InvalidArgument", "A part's number is from 1 to 10000.")
    if not entry.parts and number == 1:
        return all_of_it
    for (of, size), sums in zip(entry.parts, part_sums(entry), strict=True):
        if of == number:
            span = Span(at, at + size)
            return _Shown(span, _ranged(span, entry) | {_PARTS_COUNT: str(len(entry.parts))}, sums)
        at += size
    raise S3Error("InvalidPart", "The object has no such part.")


def _ranged(span: Span, entry: Entry) -> dict[str, str]:
    return {"content-range": f"bytes {span.start}-{span.stop - 1}/{entry.size}"}


async def _bytes(x: Exchange, entry: Entry, span: Span) -> AsyncIterator[bytes]:
    if span.stop > span.start and x.request.method != "HEAD":
        async for chunk in x.store.read(x.owner, x.bucket.name, entry, span.start, span.stop):
            yield chunk
