"""Blobs in and out, streamed: no blob is ever whole in memory."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from litestar import Request, Response, get, head, put
from litestar.exceptions import InternalServerException
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIFormat, OpenAPIMediaType, OpenAPIType, Operation, RequestBody, Schema
from litestar.response import Stream

from fallow.domain.errors import InvalidInput, NotAllowed, TooMuch
from fallow.domain.views.base import ErrorView, View
from fallow.http.answers import bodiless, keyed
from fallow.http.auth import BlobRights, blob_rights
from fallow.http.gateway import Gateway
from fallow.http.params import BlobName, Parts

BlobRequest = Request[Any, BlobRights, Any]

BYTES = "application/octet-stream"
_FROM = re.compile(r"bytes=(\d{1,18})-")


class BlobView(View, frozen=True, kw_only=True):
    """A stored blob and its size in bytes."""

    sha256: str
    size: int


PART = ResponseSpec(bytes, description="The rest of the blob.", media_type=BYTES, generate_examples=False)


@dataclass
class TakesBytes(Operation):
    """A route whose body is bytes that its handler reads as they come."""

    def __post_init__(self) -> None:
        """State the body, which no parameter of the handler shows."""
        content = {BYTES: OpenAPIMediaType(Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY))}
        self.request_body = RequestBody(content, required=True)


@put(
    "/v1/blobs/{sha256:str}",
    guards=[blob_rights],
    request_max_body_size=None,
    operation_class=TakesBytes,
    responses=keyed(413),
    tags=["blobs"],
)
async def store(gateway: Parts, request: BlobRequest, sha256: BlobName) -> BlobView:
    """Store the body under its SHA-256. A buyer sends an API key; a node its lease's ticket and proof."""
    rights = request.auth
    size_max = _announced(request, rights.write_bytes_max)
    if rights.lease is None:
        return await _stored(gateway, request, sha256)
    with gateway.lease_writes.coming(rights.lease, size_max, rights.write_bytes_max):
        view = await _stored(gateway, request, sha256)
        gateway.lease_writes.add(rights.lease, view.size)
        return view


@get(
    "/v1/blobs/{sha256:str}",
    guards=[blob_rights],
    media_type=BYTES,
    responses={**keyed(404, 416), 206: PART},
    tags=["blobs"],
)
async def load(gateway: Parts, request: BlobRequest, sha256: BlobName) -> Response[Any]:
    """Read a blob; `Range: bytes=N-` goes on from byte N."""
    size = await _size(gateway, request.auth, sha256)
    headers = _headers(sha256)
    asked = _FROM.fullmatch(request.headers.get("Range", ""))
    start = int(asked[1]) if asked else 0
    if asked and start >= size:
        return _unsatisfiable(size)
    if asked:
        headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
    headers["Content-Length"] = str(size - start)
    chunks = gateway.nodes.passing(request.auth.node, gateway.blobs.get(request.auth.owner, sha256, start=start))
    return Stream(chunks, status_code=206 if asked else 200, headers=headers)


@head("/v1/blobs/{sha256:str}", guards=[blob_rights], responses=bodiless(keyed(404)), tags=["blobs"])
async def look(gateway: Parts, request: BlobRequest, sha256: BlobName) -> Response[None]:
    """Whether a blob is there, and its size as Content-Length."""
    size = await _size(gateway, request.auth, sha256)
    return Response(None, headers={**_headers(sha256), "Content-Length": str(size)})


async def _stored(gateway: Gateway, request: BlobRequest, sha256: str) -> BlobView:
    rights = request.auth
    try:
        chunks = gateway.nodes.passing(rights.node, _counted(gateway, rights, request.stream()))
        size = await gateway.blobs.put(rights.owner, sha256, chunks, bytes_max=rights.write_bytes_max)
    except InternalServerException as error:
        raise InvalidInput("blob.cut_short", "The upload ended before its end.", "Send it again.") from error
    return BlobView(sha256=sha256, size=size)


async def _size(gateway: Gateway, rights: BlobRights, sha256: str) -> int:
    if rights.reads is not None and sha256 not in rights.reads:
        raise NotAllowed("ticket.read", "The ticket does not let its node read this blob.")
    return await gateway.blobs.size(rights.owner, sha256)


async def _counted(gateway: Gateway, rights: BlobRights, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Count a buyer's bytes as they come: one account cannot fill the disk in no time. A node's lease is bounded."""
    async for chunk in chunks:
        if rights.node is None:
            gateway.uploads.take(rights.owner, len(chunk))
        yield chunk


def _announced(request: BlobRequest, bytes_max: int) -> int:
    """How large a blob says that it is, else the most that it may be; refused before its first byte if too large."""
    size = bytes_max if request.content_length is None else request.content_length
    if size > bytes_max:
        raise TooMuch("blob.too_large", f"The blob has more than the {bytes_max} bytes that are allowed.")
    return size


def _headers(sha256: str) -> dict[str, str]:
    """What a stranger's program wrote must not be shown by a browser as a page of this server.

    What a browser has kept of it is for whoever had it, and not for who signs in after him.
    """
    return {
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=31536000, immutable",
        "Content-Disposition": "attachment",
        "ETag": f'"{sha256}"',
        "Vary": "Authorization, Cookie",
    }


def _unsatisfiable(size: int) -> Response[ErrorView]:
    view = ErrorView(kind="InvalidInput", code="blob.range", message=f"The blob has only {size} bytes.")
    headers = {"Content-Range": f"bytes */{size}"}
    return Response(view, status_code=416, media_type="application/json", headers=headers)


ROUTES = [store, load, look]
