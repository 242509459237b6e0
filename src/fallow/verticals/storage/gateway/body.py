"""A request's content: decoded, counted and hashed while it goes to the store, and checked at its end."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

from fallow.verticals.storage.client.store import Ended
from fallow.verticals.storage.gateway.auth.caller import Caller
from fallow.verticals.storage.gateway.auth.chunked import ChunkedDecoder
from fallow.verticals.storage.gateway.checksums import (
    HEADER,
    Hasher,
    hasher,
    md5_of,
    named_algorithm,
    sent_checksums,
    written,
)
from fallow.verticals.storage.gateway.errors import S3Error
from fallow.verticals.storage.gateway.numbers import whole
from fallow.verticals.storage.gateway.request import Request

DOCUMENT_BYTES_MAX: Final = 2 << 20
"""Enough for the 10,000 parts of an upload, each with its ETag and a SHA-256 (175 bytes), or for 1,000 long names."""
UPLOAD_BYTES_MAX: Final = 5 << 30
BATCH_BYTES: Final = 1 << 20
"""What is hashed in a thread at a time; less than a sixteenth of it is hashed where it is."""


class Digests:
    """MD5 and further checksums over one content."""

    def __init__(self, algorithms: Sequence[str]) -> None:
        self._md5: Hasher = hashlib.md5(usedforsecurity=False)
        self._others = {algorithm: hasher(algorithm) for algorithm in algorithms}
        self.size = 0

    async def through(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield the chunks as they are; a batch is hashed in a thread while the next ones come."""
        loop = asyncio.get_running_loop()
        running: asyncio.Future[None] | None = None
        batch: list[bytes] = []
        waiting = 0
        async for chunk in chunks:
            yield chunk
            batch.append(chunk)
            waiting += len(chunk)
            self.size += len(chunk)
            if waiting >= BATCH_BYTES:
                if running is not None:
                    await running
                running, batch, waiting = loop.run_in_executor(None, self._update, batch), [], 0
        if running is not None:
            await running
        if waiting >= BATCH_BYTES // 16:
            await loop.run_in_executor(None, self._update, batch)
        else:
            self._update(batch)

    def md5(self) -> bytes:
        """The MD5."""
        return self._md5.digest()

    def of(self, algorithm: str) -> bytes:
        """One of the others."""
        return self._others[algorithm].digest()

    def _update(self, batch: list[bytes]) -> None:
        for chunk in batch:
            self._md5.update(chunk)
            for other in self._others.values():
                other.update(chunk)


class Content:
    """The content of an upload: `chunks` for the store, `finish` for its end.

    `wanted` names a checksum that is kept in any case. With `summed` off, checksums in headers are of something else.

    Raises:
        S3Error: from the start where what headers say of it makes no sense.
    """

    def __init__(self, request: Request, caller: Caller, wanted: str = "", *, summed: bool = True) -> None:
        self._request, self._caller = request, caller
        self._decoder = ChunkedDecoder(caller.signing) if caller.chunked else None
        self._md5 = md5_of(request.header("content-md5")) if "content-md5" in request.headers else None
        self._sent = sent_checksums(request.headers) if summed else {}
        self._trailing = [
            name.strip().lower().removeprefix(HEADER)
            for name in request.header("x-amz-trailer").split(",")
            if name.strip().lower().startswith(HEADER)
        ]
        named = named_algorithm(request.header("x-amz-sdk-checksum-algorithm"))
        for algorithm in self._trailing:
            named_algorithm(algorithm)
        if self._trailing and self._decoder is None:
            raise S3Error("InvalidRequest", "Headers trail behind a body in aws-chunked form only.")
        self.length = _length(request, caller)
        kept = {*self._sent, *self._trailing} or {algorithm for algorithm in (wanted or named,) if algorithm}
        self._kept = sorted(kept | {wanted} if wanted else kept)
        self._digests = Digests(sorted({*self._kept, *(("sha256",) if caller.sha256 else ())}))

    @property
    def size(self) -> int:
        """How many bytes of content have come."""
        return self._digests.size

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the content."""
        return self._digests.through(self._decoded())

    def finish(self) -> Ended:
        """Check what was said of the content against what came.

        Raises:
            S3Error: IncompleteBody, BadDigest, XAmzContentSHA256Mismatch.
        """
        if self._decoder is not None:
            self._decoder.end()
        if self.length is not None and self.size != self.length:
            raise S3Error("IncompleteBody")
        digests = self._digests
        if self._md5 is not None and not hmac.compare_digest(self._md5, digests.md5()):
            raise S3Error("BadDigest")
        if self._caller.sha256 and digests.of("sha256").hex() != self._caller.sha256:
            raise S3Error("XAmzContentSHA256Mismatch")
        checksums = {algorithm: written(digests.of(algorithm)) for algorithm in self._kept}
        for algorithm, value in {**self._sent, **self._trailed()}.items():
            if checksums[algorithm] != value:
                raise S3Error("BadDigest", f"The content's {algorithm} is not the one that was sent.")
        return Ended(digests.md5().hex(), checksums)

    def _trailed(self) -> Mapping[str, str]:
        if self._decoder is None:
            return {}
        trailed = sent_checksums(self._decoder.trailers)
        if set(trailed) != set(self._trailing):
            raise S3Error("InvalidRequest", "The trailing headers are not those that x-amz-trailer names.")
        return trailed

    async def _decoded(self) -> AsyncIterator[bytes]:
        most = UPLOAD_BYTES_MAX if self.length is None else self.length
        size = 0
        async for data in self._request.body():
            for chunk in (data,) if self._decoder is None else self._decoder.feed(data):
                size += len(chunk)
                if size > most:
                    raise S3Error("EntityTooLarge" if self.length is None else "IncompleteBody")
                yield chunk


async def read_document(
    request: Request, caller: Caller, limit: int = DOCUMENT_BYTES_MAX, *, summed: bool = True
) -> bytes:
    """Read a body that is a document, whole, and check it like any content; `summed` as for that.

    Raises:
        S3Error: MaxMessageLengthExceeded, and those of `Content`.
    """
    content = Content(request, caller, summed=summed)
    if (content.length or 0) > limit:
        raise S3Error("MaxMessageLengthExceeded")
    data = bytearray()
    async for chunk in content.chunks():
        data += chunk
        if len(data) > limit:
            raise S3Error("MaxMessageLengthExceeded")
    content.finish()
    return bytes(data)


def _length(request: Request, caller: Caller) -> int | None:
    """How long the content will be; None: nobody says.

    Raises:
        S3Error: MissingContentLength, EntityTooLarge, InvalidArgument.
    """
    length = request.length
    if caller.chunked:
        length = whole(request.header("x-amz-decoded-content-length"))
        if length is None:
            raise S3Error("MissingContentLength")
    if length is not None and length > UPLOAD_BYTES_MAX:
        raise S3Error("EntityTooLarge")
    return length
