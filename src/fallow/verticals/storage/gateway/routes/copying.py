"""Copies: objects, and parts of uploads, out of objects that are here already."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import unquote

from fallow.verticals.storage.client.store import Ended, Entry, Head
from fallow.verticals.storage.core.calls.buckets import Bucket
from fallow.verticals.storage.gateway.access import check, missing, on_entry
from fallow.verticals.storage.gateway.body import Digests
from fallow.verticals.storage.gateway.checksums import named_algorithm, written
from fallow.verticals.storage.gateway.conditions import Span, check_read
from fallow.verticals.storage.gateway.errors import S3Error
from fallow.verticals.storage.gateway.exchange import Exchange, check_expected, entry_of
from fallow.verticals.storage.gateway.heads import head_of, sum_nodes, written_headers
from fallow.verticals.storage.gateway.respond import Response, answer
from fallow.verticals.storage.gateway.times import iso
from fallow.verticals.storage.gateway.writes import asked_of
from fallow.verticals.storage.gateway.xml import Node

SOURCE = "x-amz-copy-source"
COPY_BYTES_MAX = 5 << 30
_DIRECTIVES = frozenset({"COPY", "REPLACE"})


class Source(NamedTuple):
    """What is copied."""

    bucket: Bucket
    entry: Entry
    versioned: bool


async def copy_object(x: Exchange) -> Response:
    """Make an object of another one's bytes, with its head or a new one."""
    headers = x.request.headers
    source = await source_of(x)
    directive, tagging = _directive(x, "x-amz-metadata-directive"), _directive(x, "x-amz-tagging-directive")
    itself = source.bucket.name == x.bucket.name and source.entry.key == x.key and not source.versioned
    changes = directive == "REPLACE" or any(
        name in headers for name in ("x-amz-website-redirect-location", "x-amz-server-side-encryption")
    )
    if itself and not changes:
        raise S3Error("InvalidRequest", "An object is copied to itself with new metadata only.")
    if source.entry.size > COPY_BYTES_MAX:
        raise S3Error("InvalidRequest", "What is copied at once has at most 5 GiB.")
    asked = await asked_of(x, None if tagging == "REPLACE" else source.entry.marks.tags)
    head = head_of(headers)
    if directive == "COPY":
        head = Head(headers=source.entry.head.headers, metadata=source.entry.head.metadata)
    wanted = named_algorithm(x.request.header("x-amz-checksum-algorithm"))
    copy = Copy(x, source, Span(0, source.entry.size), [wanted] if wanted else list(source.entry.head.checksums))
    entry = await x.store.put(
        x.owner,
        x.bucket.name,
        x.key,
        copy.chunks,
        copy.finish,
        head=head,
        marks=asked.marks,
        lock=asked.lock,
        only_if=asked.only_if,
    )
    said = written_headers(entry, x.bucket) | source_headers(source)
    return answer("CopyObjectResult", *result(entry.head.etag, entry.made_ms, entry.head.checksums), headers=said)


class Copy:
    """The bytes of a source on their way to be a new object or part."""

    def __init__(self, x: Exchange, source: Source, span: Span, algorithms: list[str]) -> None:
        self._digests = Digests(algorithms)
        self._algorithms = algorithms
        read = x.store.read(source.bucket.account, source.bucket.name, source.entry, span.start, span.stop)
        self.chunks = self._digests.through(read)

    def finish(self) -> Ended:
        """What is known at their end."""
        checksums = {algorithm: written(self._digests.of(algorithm)) for algorithm in self._algorithms}
        return Ended(self._digests.md5().hex(), checksums)


async def source_of(x: Exchange) -> Source:
    """Look up what is to be copied, and check that the caller may read it, now.

    Raises:
        S3Error: InvalidArgument, NoSuchKey, NoSuchVersion, InvalidRequest, AccessDenied, PreconditionFailed.
    """
    path, _, version = x.request.header(SOURCE).partition("?versionId=")
    name, slash, key = unquote(path).lstrip("/").partition("/")
    if not slash or not name or not key:
        raise S3Error("InvalidArgument", "A copy's source is bucket/key.")
    bucket = await x.store.bucket(name)
    check_expected(x.request.header("x-amz-source-expected-bucket-owner"), bucket)
    entry = await entry_of(x, bucket, key, version)
    if entry is None:
        raise missing(x, bucket, key, "NoSuchVersion" if version else "NoSuchKey")
    check(x, "s3:GetObjectVersion" if version else "s3:GetObject", "READ", on_entry(entry, bucket, version))
    if entry.marker:
        raise S3Error("InvalidRequest" if version else "NoSuchKey", "The copy's source marks a deletion.")
    check_read(entry, x.request.headers, "x-amz-copy-source-")
    return Source(bucket, entry, bool(version))


def source_headers(source: Source) -> dict[str, str]:
    """Which version was copied."""
    return {"x-amz-copy-source-version-id": source.entry.version} if source.bucket.versioning != "off" else {}


def result(etag: str, made_ms: int, checksums: dict[str, str]) -> list[Node]:
    """The elements that say what a copy became."""
    return [Node("LastModified", iso(made_ms)), Node("ETag", f'"{etag}"'), *sum_nodes(checksums)]


def _directive(x: Exchange, name: str) -> str:
    directive = x.request.header(name, "COPY")
    if directive not in _DIRECTIVES:
        raise S3Error("InvalidArgument", f"{name} is COPY or REPLACE.")
    return directive
