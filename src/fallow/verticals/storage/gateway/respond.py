"""An answer, and how it is sent."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from typing import Final, NamedTuple

from fallow.ports.tasks import background
from fallow.verticals.storage.gateway.request import Request, Send
from fallow.verticals.storage.gateway.watch import SILENCE_MS, SLOWEST_BYTES_PER_S, Watch
from fallow.verticals.storage.gateway.xml import Node, document

XML: Final = "application/xml"
SENT_BYTES_MAX: Final = SLOWEST_BYTES_PER_S * SILENCE_MS // 1000
"""At a time: a store gives a mebibyte at a time, and who takes that slowly would pass for one who is silent."""
_BARE: Final = frozenset({204, 304})
_UNSAFE: Final = re.compile(r"[\r\n\x00]")


class Response(NamedTuple):
    """A status, headers, and a body: bytes, or an iterator of exactly `length` of them."""

    status: int = 200
    headers: Mapping[str, str] = {}
    body: bytes | AsyncIterator[bytes] = b""
    length: int | None = None


def answer(name: str, *inside: Node, headers: Mapping[str, str] | None = None) -> Response:
    """An answer with a document."""
    return Response(200, {"content-type": XML, **(headers or {})}, document(name, *inside))


async def send_response(
    request: Request, send: Send, response: Response, headers: Mapping[str, str], *, close: bool
) -> None:
    """Send an answer; to a HEAD without its body. Headers can hold no line's end.

    What the body's first bytes raise is raised before anything is sent; they follow the head in the same turn of the
    loop, and so leave with it.

    Raises:
        ExceptionGroup: of a ConnectionError: the client left while it was sent something.
    """
    watch = request.watch
    bare = request.method == "HEAD" or response.status in _BARE
    chunks = _chunks(response.body) if not bare else None
    first = await anext(chunks, b"") if chunks is not None else b""
    await send(
        {
            "type": "http.response.start",
            "status": response.status,
            "headers": _raw(response, headers, close=close),
        }
    )
    watch.started = True
    if chunks is not None and first:
        await _send_chunk(send, first, watch)
        if (response.length or 0) > len(first):
            async with background(request.left()):
                async for chunk in chunks:
                    await _send_chunk(send, chunk, watch)
    await send({"type": "http.response.body", "body": b""})


def _raw(response: Response, headers: Mapping[str, str], *, close: bool) -> list[tuple[bytes, bytes]]:
    fields = {**response.headers, **headers}
    if response.status not in _BARE:
        length = len(response.body) if isinstance(response.body, bytes) else response.length
        fields["content-length"] = str(length if response.length is None else response.length)
    if close:
        fields["connection"] = "close"
    return [
        (name.encode("latin-1"), _UNSAFE.sub(" ", value).encode("latin-1", "replace")) for name, value in fields.items()
    ]


async def _chunks(body: bytes | AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if isinstance(body, bytes):
        yield body
    else:
        async for chunk in body:
            if chunk:
                yield chunk


async def _send_chunk(send: Send, chunk: bytes, watch: Watch) -> None:
    for at in range(0, len(chunk), SENT_BYTES_MAX):
        with watch.waiting():
            await send({"type": "http.response.body", "body": chunk[at : at + SENT_BYTES_MAX], "more_body": True})
