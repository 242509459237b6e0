"""Forms: a browser uploads an object with multipart/form-data."""

from __future__ import annotations

import posixpath
from collections.abc import AsyncIterator, Iterator
from typing import Final
from urllib.parse import quote, urlencode

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from fallow.verticals.storage.client.store import Ended
from fallow.verticals.storage.gateway.auth.caller import Caller, known_user
from fallow.verticals.storage.gateway.auth.forms import FormPolicy, check_policy, check_signature, key_of_form
from fallow.verticals.storage.gateway.body import UPLOAD_BYTES_MAX, Digests
from fallow.verticals.storage.gateway.checksums import md5_of, sent_checksums, written
from fallow.verticals.storage.gateway.errors import S3Error
from fallow.verticals.storage.gateway.exchange import Exchange, parsed
from fallow.verticals.storage.gateway.heads import head_of, written_headers
from fallow.verticals.storage.gateway.request import KEY_BYTES_MAX, Request
from fallow.verticals.storage.gateway.respond import XML, Response
from fallow.verticals.storage.gateway.tags import tags_of_document
from fallow.verticals.storage.gateway.users import WRITE
from fallow.verticals.storage.gateway.writes import asked_of
from fallow.verticals.storage.gateway.xml import Node, document

FIELD_BYTES_MAX: Final = 64 << 10
FIELDS_MAX: Final = 100
_FILENAME: Final = "${filename}"
_NO_HEADERS: Final = frozenset({"key", "policy", "file", "acl", "tagging"})
_PAGES: Final = ("http://", "https://")
_STATUSES: Final = frozenset({"200", "201", "204"})


async def post_object(x: Exchange) -> Response:
    """Store the file of a form, as its policy and the bucket's let its sender."""
    form = _Form(x.request)
    fields = await form.fields()
    if "key" in fields:
        fields["key"] = fields["key"].replace(_FILENAME, form.filename)  # the policy speaks of what is stored
    limits = await _authorised(x, fields)
    key = fields.get("key", "")
    if not key or "\x00" in key:  # which no path, and no document, could name
        raise S3Error("InvalidArgument", "The form names no key, or one with a zero byte.")
    if len(key.encode()) > KEY_BYTES_MAX:
        raise S3Error("KeyTooLongError")
    x.request.key = key
    x.said = headers = _as_headers(fields)
    asked = await asked_of(x)
    sums = sent_checksums(headers)
    digests = Digests(list(sums))
    md5 = md5_of(headers["content-md5"]) if "content-md5" in headers else None

    def finish() -> Ended:
        if digests.size < limits.least:
            raise S3Error("EntityTooSmall", "The form's policy asks for more bytes.")
        if (md5 is not None and digests.md5() != md5) or any(
            written(digests.of(name)) != value for name, value in sums.items()
        ):
            raise S3Error("BadDigest")
        return Ended(digests.md5().hex(), sums)

    entry = await x.store.put(
        x.owner,
        x.bucket.name,
        key,
        digests.through(form.file(UPLOAD_BYTES_MAX if limits.most is None else limits.most)),
        finish,
        head=head_of(headers),
        marks=asked.marks,
        lock=asked.lock,
        only_if=asked.only_if,
    )
    return _done(x, fields, written_headers(entry, x.bucket))


async def _authorised(x: Exchange, fields: dict[str, str]) -> FormPolicy:
    """Find out who sends a form, and how many bytes it may bring. A signature of the request itself counts nothing."""
    x.caller = Caller()
    access_key = key_of_form(fields)
    if not access_key and "policy" not in fields:
        return FormPolicy(0, None)
    if not access_key:
        raise S3Error("AccessDenied", "The form has a policy, and nobody who signed it.")
    user = await known_user(x.users, access_key)
    check_signature(fields, user)
    if WRITE not in user.may:
        raise S3Error("AccessDenied", "The access key may not write.")
    x.caller = Caller(user, how="POST", version="AWS4-HMAC-SHA256" if "x-amz-credential" in fields else "AWS")
    return check_policy(fields, x.bucket.name, x.now_ms)


def _as_headers(fields: dict[str, str]) -> dict[str, str]:
    """The fields that stand for headers, as headers stand here: a character for a byte."""
    headers = {name: value.encode().decode("latin-1") for name, value in fields.items() if name not in _NO_HEADERS}
    if "tagging" in fields:
        headers["x-amz-tagging"] = urlencode(tags_of_document(parsed(fields["tagging"].encode())))
    return headers | ({"x-amz-acl": fields["acl"]} if "acl" in fields else {})


def _done(x: Exchange, fields: dict[str, str], headers: dict[str, str]) -> Response:
    target = fields.get("success_action_redirect") or fields.get("redirect", "")
    if target.startswith(_PAGES):
        query = f"bucket={quote(x.bucket.name)}&key={quote(x.key, '')}&etag={quote(headers['etag'], '')}"
        return Response(303, {**headers, "location": f"{target}{'&' if '?' in target else '?'}{query}"})
    status = fields.get("success_action_status", "")
    location = f"/{x.bucket.name}/{quote(x.key)}"
    if status == "201":
        nodes = [Node("Location", location), Node("Bucket", x.bucket.name), Node("Key", x.key)]
        said = document("PostResponse", *nodes, Node("ETag", headers["etag"]), namespace="")
        return Response(201, {**headers, "content-type": XML}, said)
    return Response(int(status) if status in _STATUSES else 204, {**headers, "location": location})


class _Form:
    """Reads a form: its fields up to the file, and then the file as it comes. What stands behind that is not read."""

    def __init__(self, request: Request) -> None:
        kind, options = parse_options_header(request.header("content-type"))
        if kind != "multipart/form-data" or not options.get("boundary"):
            raise S3Error("MalformedPOSTRequest")
        self.filename = ""
        self._events = self._read(request, PushMultipartParser(options["boundary"], max_header_size=4096))

    async def fields(self) -> dict[str, str]:
        """Read the fields before the file, by lower-case name.

        Raises:
            S3Error: MalformedPOSTRequest, MaxMessageLengthExceeded, InvalidArgument (there is no file).
        """
        fields: dict[str, str] = {}
        name, value, size = "", bytearray(), 0
        async for event in self._events:
            if isinstance(event, MultipartSegment):
                name, value = (event.name or "").lower(), bytearray()
                if name == "file":
                    self.filename = posixpath.basename((event.filename or "").replace("\\", "/"))
                    return fields
            elif event is None:
                fields[name] = _text(value)
            else:
                value += event
                size += len(event)
            if size > FIELD_BYTES_MAX or len(fields) > FIELDS_MAX:
                raise S3Error("MaxMessageLengthExceeded")
        raise S3Error("InvalidArgument", "The form has no file.")

    async def file(self, most: int) -> AsyncIterator[bytes]:
        """Yield the file's bytes.

        Raises:
            S3Error: MalformedPOSTRequest, EntityTooLarge.
        """
        size = 0
        async for event in self._events:
            if event is None:
                return
            if isinstance(event, MultipartSegment):
                break
            size += len(event)
            if size > most:
                raise S3Error("EntityTooLarge")
            yield bytes(event)
        raise S3Error("MalformedPOSTRequest")

    async def _read(
        self, request: Request, parser: PushMultipartParser
    ) -> AsyncIterator[MultipartSegment | bytearray | None]:
        async for data in request.body():
            for event in _parse(parser, data):
                yield event
        if not parser.closed:
            raise S3Error("MalformedPOSTRequest")


def _parse(parser: PushMultipartParser, data: bytes) -> Iterator[MultipartSegment | bytearray | None]:
    try:
        yield from parser.parse(data)
    except MultipartError as error:
        raise S3Error("MalformedPOSTRequest") from error


def _text(value: bytearray) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise S3Error("MalformedPOSTRequest") from error
