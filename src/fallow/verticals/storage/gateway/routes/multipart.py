"""Uploads in parts."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Final, NamedTuple
from xml.etree import ElementTree as ET

from fallow.domain.errors import NotFound
from fallow.verticals.storage.client.store import Begun, Entry, Head
from fallow.verticals.storage.core.calls.base import PARTS_MAX
from fallow.verticals.storage.core.calls.uploads import StoredPart
from fallow.verticals.storage.gateway import encryption
from fallow.verticals.storage.gateway.access import check, check_not_denied, on_bucket
from fallow.verticals.storage.gateway.acl import Permission, decode_acl, owner_node
from fallow.verticals.storage.gateway.body import Content
from fallow.verticals.storage.gateway.checksums import (
    ALGORITHMS,
    COMPOSITE,
    FULL_OBJECT,
    HEADER,
    combined,
    composite,
    joined,
    named_algorithm,
    sent_checksums,
)
from fallow.verticals.storage.gateway.conditions import Span, bare, read_copy_range
from fallow.verticals.storage.gateway.errors import S3Error
from fallow.verticals.storage.gateway.exchange import Exchange, entry_of
from fallow.verticals.storage.gateway.heads import PART_SUMS_BYTES_MAX, head_of, kind_of, sum_nodes
from fallow.verticals.storage.gateway.numbers import whole
from fallow.verticals.storage.gateway.respond import Response, answer
from fallow.verticals.storage.gateway.routes.copying import COPY_BYTES_MAX, Copy, result, source_headers, source_of
from fallow.verticals.storage.gateway.routes.lists import encoder, read_encoding, read_limit
from fallow.verticals.storage.gateway.times import iso
from fallow.verticals.storage.gateway.writes import asked_of, condition_of
from fallow.verticals.storage.gateway.xml import Node, text_of

PART_BYTES_MIN: Final = 5 << 20
_PAGE: Final = 1000
_ALGORITHM: Final = "x-amz-checksum-algorithm"
_KIND: Final = f"{HEADER}type"
_UPLOAD: Final = re.compile(r"^[0-9a-f]{32}\Z")
_ETAG: Final = re.compile(r"^[0-9a-f]{32}\Z")


class _Uploads(NamedTuple):
    """A page of uploads and folders, and behind which of them the next one goes on."""

    uploads: Sequence[Begun]
    folders: Sequence[str]
    more: bool = False
    after: str = ""
    after_upload: str = ""


class _Listed(NamedTuple):
    """A part as its sender lists it."""

    number: int
    etag: str
    checksums: Mapping[str, str]


async def create_upload(x: Exchange) -> Response:
    """Begin an upload. How its checksums are made is kept with it."""
    headers = x.request.headers
    asked = await asked_of(x)
    head = head_of(headers)
    algorithm, kind = named_algorithm(x.request.header(_ALGORITHM)), x.request.header(_KIND).upper()
    if algorithm:
        kind = kind or (FULL_OBJECT if algorithm == "crc64nvme" else COMPOSITE)
        _check_kind(algorithm, kind)
        head = Head(headers={**head.headers, _ALGORITHM: algorithm, _KIND: kind}, metadata=head.metadata)
    elif kind:
        raise S3Error("InvalidRequest", "A type of checksum needs an algorithm.")
    upload = await x.store.begin(x.owner, x.bucket.name, x.key, head=head, marks=asked.marks, lock=asked.lock)
    said = {_ALGORITHM: algorithm.upper(), _KIND: kind} if algorithm else {}
    nodes = [*_names(x), Node("UploadId", upload)]
    return answer("InitiateMultipartUploadResult", *nodes, headers=encryption.SAID | said)


async def put_part(x: Exchange) -> Response:
    """Store the body as a part."""
    encryption.check_written(x.request.headers)
    check(x, "s3:PutObject", "WRITE", on_bucket(x, key=x.key))
    number, begun = _number(x), await _begun(x)
    algorithm = begun.head.headers.get(_ALGORITHM, "")
    content = Content(x.request, x.caller, algorithm)
    if x.request.length is None and x.request.header("transfer-encoding").lower() != "chunked":
        raise S3Error("MissingContentLength")
    part = await x.store.put_part(x.owner, x.bucket.name, x.key, begun.upload, number, content.chunks(), content.finish)
    sums = content.finish().checksums
    headers = {**encryption.SAID, "etag": f'"{part.etag}"'} | {f"{HEADER}{name}": value for name, value in sums.items()}
    return Response(200, headers)


async def copy_part(x: Exchange) -> Response:
    """Make a part of another object's bytes."""
    encryption.check_written(x.request.headers)
    check(x, "s3:PutObject", "WRITE", on_bucket(x, key=x.key))
    number, begun, source = _number(x), await _begun(x), await source_of(x)
    header = x.request.header("x-amz-copy-source-range")
    span = read_copy_range(header, source.entry.size) if header else Span(0, source.entry.size)
    if span.stop - span.start > COPY_BYTES_MAX:
        raise S3Error("InvalidRequest", "What is copied at once has at most 5 GiB.")
    algorithm = begun.head.headers.get(_ALGORITHM)
    copy = Copy(x, source, span, [algorithm] if algorithm else [])
    part = await x.store.put_part(x.owner, x.bucket.name, x.key, begun.upload, number, copy.chunks, copy.finish)
    nodes = result(part.etag, part.made_ms, dict(copy.finish().checksums))
    return answer("CopyPartResult", *nodes, headers=encryption.SAID | source_headers(source))


async def list_parts(x: Exchange) -> Response:
    """The parts that have come."""
    begun = await _begun(x)
    _check_initiator(x, begun, "s3:ListMultipartUploadParts", "READ")
    most = min(read_limit(x.request.arg("max-parts"), "max-parts"), _PAGE)
    after = read_limit(x.request.arg("part-number-marker") or "0", "part-number-marker")
    found = await _page(x, begun.upload, after, min(most + 1, _PAGE)) if most and after < PARTS_MAX else []
    more = len(found) > most or (
        most == _PAGE == len(found) and bool(await _page(x, begun.upload, found[-1][0].number, 1))
    )
    shown = found[:most]
    owner = _initiator(x, begun)
    algorithm = begun.head.headers.get(_ALGORITHM)
    kinds = [Node("ChecksumAlgorithm", algorithm.upper())] if algorithm else []
    kinds += [Node("ChecksumType", begun.head.headers[_KIND])] if algorithm else []
    return answer(
        "ListPartsResult",
        *_names(x),
        Node("UploadId", begun.upload),
        await owner_node(owner, x.users, "Initiator"),
        await owner_node(owner, x.users),
        Node("StorageClass", "STANDARD"),
        Node("PartNumberMarker", after),
        Node("NextPartNumberMarker", shown[-1][0].number if shown else 0),
        Node("MaxParts", most),
        Node("IsTruncated", more),
        *kinds,
        *[_part_node(part, sums) for part, sums in shown],
    )


async def list_uploads(x: Exchange) -> Response:
    """The uploads that are open."""
    check(x, "s3:ListBucketMultipartUploads", "READ", on_bucket(x))
    encoding = read_encoding(x)
    said = encoder(encoding)
    most = min(read_limit(x.request.arg("max-uploads"), "max-uploads"), _PAGE)
    prefix, delimiter = x.request.arg("prefix"), x.request.arg("delimiter")
    after, after_upload = x.request.arg("key-marker"), x.request.arg("upload-id-marker")
    page = await _uploads(x, prefix, delimiter, after, after_upload, most)
    ends = [Node("NextKeyMarker", said(page.after)), Node("NextUploadIdMarker", page.after_upload)] if page.more else []
    return answer(
        "ListMultipartUploadsResult",
        Node("Bucket", x.bucket.name),
        Node("KeyMarker", said(after)),
        Node("UploadIdMarker", after_upload),
        *ends,
        Node("Prefix", said(prefix)),
        *([Node("Delimiter", said(delimiter))] if delimiter else []),
        *([Node("EncodingType", encoding)] if encoding else []),
        Node("MaxUploads", most),
        Node("IsTruncated", page.more),
        *[await _upload_node(x, begun, said) for begun in page.uploads],
        *[Node("CommonPrefixes", None, Node("Prefix", said(folder))) for folder in page.folders],
    )


async def complete_upload(x: Exchange) -> Response:
    """Make the object. Doing it again answers the same."""
    check(x, "s3:PutObject", "WRITE", on_bucket(x, key=x.key))
    listed = _read_parts(await x.document(summed=False))
    etag = _etag(listed)
    try:
        begun = await _begun(x)
    except S3Error as error:
        there = await entry_of(x, x.bucket, x.key, "")
        if error.code != "NoSuchUpload" or there is None or there.marker or there.head.etag != etag:
            raise
        return _completed(x, there)
    only_if = await condition_of(x)
    stored = await _stored(x, begun.upload)
    _check_parts(listed, stored)
    size = x.request.header("x-amz-mp-object-size")
    if size and size != str(sum(stored[part.number][0].size for part in listed)):
        raise S3Error("InvalidRequest", "The parts do not have the size together that was sent.")
    head = await _whole_head(x, begun, listed, stored, etag)
    entry = await x.store.complete(
        x.owner, x.bucket.name, x.key, begun.upload, [(part.number, part.etag) for part in listed],
        head=head, only_if=only_if,
    )  # fmt: skip
    return _completed(x, entry)


async def abort_upload(x: Exchange) -> Response:
    """Give an upload up."""
    if "x-amz-if-match-initiated-time" in x.request.headers:
        raise S3Error("NotImplemented", "An upload is given up without a condition.")
    begun = await _begun(x)
    _check_initiator(x, begun, "s3:AbortMultipartUpload", "WRITE")
    await x.store.abort(x.owner, x.bucket.name, x.key, begun.upload)
    return Response(204)


def _check_kind(algorithm: str, kind: str) -> None:
    whole = algorithm.startswith("crc")
    if (
        kind not in {COMPOSITE, FULL_OBJECT}
        or (kind == FULL_OBJECT and not whole)
        or (kind == COMPOSITE and algorithm == "crc64nvme")
    ):
        raise S3Error("InvalidRequest", f"There is no {kind} checksum of the algorithm {algorithm}.")


def _number(x: Exchange) -> int:
    number = whole(x.request.arg("partNumber"))
    if number is None or not 1 <= number <= PARTS_MAX:
        raise S3Error("InvalidArgument", f"A part's number is from 1 to {PARTS_MAX}.")
    return number


async def _begun(x: Exchange) -> Begun:
    upload = x.request.arg("uploadId")
    if not _UPLOAD.match(upload):
        raise S3Error("NoSuchUpload")
    try:
        return await x.store.begun(x.owner, x.bucket.name, x.key, upload)
    except NotFound as error:
        if error.code != "storage.no_upload":
            raise
        raise S3Error("NoSuchUpload") from error


def _check_initiator(x: Exchange, begun: Begun, action: str, permission: Permission) -> None:
    """Let who began an upload see to it, unless the policy denies it, and others who may."""
    target = on_bucket(x, key=x.key)
    if x.caller.account and _initiator(x, begun) == x.caller.account:
        check_not_denied(x, action, target)
    else:
        check(x, action, permission, target)


def _initiator(x: Exchange, begun: Begun) -> str:
    return decode_acl(begun.marks.acl, x.owner).owner


async def _page(x: Exchange, upload: str, after: int, limit: int) -> list[tuple[StoredPart, Mapping[str, str]]]:
    return await x.store.parts(x.owner, x.bucket.name, x.key, upload, after=after, limit=limit)


async def _stored(x: Exchange, upload: str) -> dict[int, tuple[StoredPart, Mapping[str, str]]]:
    stored: dict[int, tuple[StoredPart, Mapping[str, str]]] = {}
    after = 0
    while page := await _page(x, upload, after, _PAGE):
        stored |= {part.number: (part, sums) for part, sums in page}
        after = page[-1][0].number
        if after >= PARTS_MAX:
            break
    return stored


async def _uploads(x: Exchange, prefix: str, delimiter: str, after: str, after_upload: str, most: int) -> _Uploads:
    """Uploads and folders up to `most` together."""
    found: list[Begun] = []
    folders: list[str] = []
    last = after, after_upload
    while most and (
        page := await x.store.uploads(
            x.owner, x.bucket.name, prefix=prefix, after=after, after_upload=after_upload, limit=_PAGE
        )
    ):
        for begun in page:
            stop = begun.key.find(delimiter, len(prefix)) if delimiter else -1
            folder = begun.key[: stop + len(delimiter)] if stop >= 0 else ""
            if folder and last[0].startswith(folder):
                continue
            if len(found) + len(folders) == most:
                return _Uploads(found, folders, True, *last)
            if folder:
                folders.append(folder)
                last = folder, ""
            else:
                found.append(begun)
                last = begun.key, begun.upload
        if len(page) < _PAGE:
            break
        after, after_upload = page[-1].key, page[-1].upload
    return _Uploads(found, folders)


def _read_parts(root: ET.Element) -> list[_Listed]:
    elements = root.findall("Part")
    if root.tag != "CompleteMultipartUpload" or not 0 < len(elements) <= PARTS_MAX:
        raise S3Error("MalformedXML", f"An upload is completed of 1 to {PARTS_MAX} parts.")
    listed = []
    for element in elements:
        number, etag = whole(text_of(element, "PartNumber")), bare(text_of(element, "ETag"))
        if number is None or not etag:
            raise S3Error("MalformedXML")
        if not 1 <= number <= PARTS_MAX:
            raise S3Error("InvalidArgument", f"A part's number is from 1 to {PARTS_MAX}.")
        sums = {name: text_of(element, f"Checksum{name.upper()}") for name in ALGORITHMS}
        listed.append(_Listed(number, etag, {name: value for name, value in sums.items() if value}))
    if any(later.number <= earlier.number for earlier, later in pairwise(listed)):
        raise S3Error("InvalidPartOrder")
    return listed


def _etag(listed: Sequence[_Listed]) -> str:
    """The ETag of an object in parts: the MD5 of their MD5s, and how many they are."""
    if not all(_ETAG.match(part.etag) for part in listed):
        raise S3Error("InvalidPart")
    digests = b"".join(bytes.fromhex(part.etag) for part in listed)
    return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(listed)}"


def _check_parts(listed: Sequence[_Listed], stored: Mapping[int, tuple[StoredPart, Mapping[str, str]]]) -> None:
    for part in listed:
        there, sums = stored.get(part.number, (None, {}))
        if there is None or there.etag != part.etag:
            raise S3Error("InvalidPart")
        if any(sums.get(name, value) != value for name, value in part.checksums.items()):
            raise S3Error("InvalidPart", "A part has another checksum.")
    if any(stored[part.number][0].size < PART_BYTES_MIN for part in listed[:-1]):
        raise S3Error("EntityTooSmall")


async def _whole_head(
    x: Exchange,
    begun: Begun,
    listed: Sequence[_Listed],
    stored: Mapping[int, tuple[StoredPart, Mapping[str, str]]],
    etag: str,
) -> Head:
    kept = {name: value for name, value in begun.head.headers.items() if name not in {_ALGORITHM, _KIND}}
    algorithm, kind = begun.head.headers.get(_ALGORITHM), begun.head.headers.get(_KIND, "")
    sent = sent_checksums(x.request.headers)
    if sent.keys() - {algorithm}:
        raise S3Error("InvalidRequest", "The upload was begun with another checksum than the one that was sent.")
    if x.request.header(_KIND, kind).upper() != kind:
        raise S3Error("BadDigest", "The upload was begun with another type of checksum.")
    if algorithm is None:
        return Head(headers=kept, metadata=begun.head.metadata, etag=etag)
    parts = [(stored[part.number][1].get(algorithm, ""), stored[part.number][0].size) for part in listed]
    whole, digests = kind == FULL_OBJECT, joined(text for text, _ in parts)
    if whole:
        value = await asyncio.to_thread(combined, algorithm, parts)
    else:
        value = composite(algorithm, digests, len(parts))
    if sent and sent[algorithm] not in {value, value.partition("-")[0]}:
        raise S3Error("BadDigest", f"The object's {algorithm} is not the one that was sent.")
    return Head(
        headers=kept,
        metadata=begun.head.metadata,
        etag=etag,
        checksums={algorithm: value},
        composite=not whole,
        part_sums=digests if len(digests) <= PART_SUMS_BYTES_MAX else b"",
    )


def _completed(x: Exchange, entry: Entry) -> Response:
    sums = sum_nodes(entry.head.checksums)
    kind = [Node("ChecksumType", kind_of(entry.head))] if sums else []
    return answer(
        "CompleteMultipartUploadResult",
        Node("Location", f"/{x.bucket.name}/{x.key}"),
        *_names(x),
        Node("ETag", f'"{entry.head.etag}"'),
        *sums,
        *kind,
        headers=encryption.SAID | ({"x-amz-version-id": entry.version} if x.bucket.versioning == "enabled" else {}),
    )


def _names(x: Exchange) -> list[Node]:
    return [Node("Bucket", x.bucket.name), Node("Key", x.key)]


def _part_node(part: StoredPart, sums: Mapping[str, str]) -> Node:
    return Node(
        "Part",
        None,
        Node("PartNumber", part.number),
        Node("LastModified", iso(part.made_ms)),
        Node("ETag", f'"{part.etag}"'),
        Node("Size", part.size),
        *sum_nodes(sums),
    )


async def _upload_node(x: Exchange, begun: Begun, said: Callable[[str], str]) -> Node:
    owner = _initiator(x, begun)
    return Node(
        "Upload",
        None,
        Node("Key", said(begun.key)),
        Node("UploadId", begun.upload),
        await owner_node(owner, x.users, "Initiator"),
        await owner_node(owner, x.users),
        Node("StorageClass", "STANDARD"),
        Node("Initiated", iso(begun.made_ms)),
    )
