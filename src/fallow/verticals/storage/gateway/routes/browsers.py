"""What browsers need: cross-origin rules, and the question that they ask before a request."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from fallow.domain.errors import InvalidInput
from fallow.verticals.storage.core.calls.buckets import Bucket
from fallow.verticals.storage.gateway.cors import (
    METHODS,
    decode_rules,
    encode_rules,
    first_answer,
    rule_node,
    rules_of_document,
)
from fallow.verticals.storage.gateway.errors import S3Error
from fallow.verticals.storage.gateway.exchange import CORS, Exchange
from fallow.verticals.storage.gateway.request import Request
from fallow.verticals.storage.gateway.respond import Response, answer
from fallow.verticals.storage.gateway.routes.settings import Setting

_METHOD: Final = "access-control-request-method"
_HEADERS: Final = "access-control-request-headers"
_SIGNATURE: Final = "X-Amz-Signature"
_PORTS: Final = {"http": 80, "https": 443}
_REMEMBERED_S: Final = "600"


async def preflight(x: Exchange) -> Response:
    """Answer a browser's question."""
    origin, method = x.request.header("origin"), x.request.header(_METHOD)
    if not origin or not method:
        raise S3Error("BadRequest", "A question before a request has an origin and a method.")
    said = allowed_by(x.bucket, x.request)
    if said is None:
        raise S3Error("AccessForbidden", "No CORS rule of the bucket allows it.", status=403)
    return Response(200, said)


def allowed_by(bucket: Bucket, request: Request) -> dict[str, str] | None:
    """What the bucket's rules say of a request; None: nothing, or nothing that can be read."""
    origin = request.header("origin")
    if not origin:
        return None
    method = request.header(_METHOD) or request.method
    asked = [name.strip() for name in request.header(_HEADERS).split(",") if name.strip()]
    try:
        rules = decode_rules(bucket.settings.get(CORS, b""))
    except InvalidInput:
        return None
    return first_answer(rules, origin, method, asked)


def allowed_console(request: Request, port: int) -> dict[str, str] | None:
    """What the network's own console may see; None: it is not its page that asks, or nothing is signed.

    It is at the same host and by the same scheme, at `port` (0: nowhere). Whoever has signed an address has said what
    may be done by it: no cookie and no bucket's rule counts here, and what is signed is all that is opened.
    """
    origin, host = request.header("origin"), _host_of(request.header("host"))
    if not port or not host or not request.has(_SIGNATURE):
        return None
    scheme = "https" if request.secure else "http"
    if origin != f"{scheme}://{host}{'' if port == _PORTS[scheme] else f':{port}'}":
        return None
    return {
        "access-control-allow-origin": origin,
        "access-control-allow-methods": ", ".join(sorted(METHODS)),
        "access-control-allow-headers": "content-type",
        "access-control-expose-headers": "etag",
        "access-control-max-age": _REMEMBERED_S,
        "vary": "Origin",
    }


def _host_of(header: str) -> str:
    """The host in a Host header, without its port, as an origin has it; "" if it is none."""
    try:
        host = urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""
    return f"[{host}]" if ":" in host else host


async def _read_rules(x: Exchange) -> bytes:
    return encode_rules(rules_of_document(await x.document()))


def _show_rules(data: bytes) -> Response:
    return answer("CORSConfiguration", *[rule_node(rule) for rule in decode_rules(data)])


RULES: Final = Setting(CORS, "BucketCORS", "NoSuchCORSConfiguration", _read_rules, _show_rules)
