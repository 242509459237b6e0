"""What browsers need: cross-origin rules, and the question that they ask before a request."""

from __future__ import annotations

from typing import Final

from fallow.verticals.storage.core.calls import Bucket
from fallow.verticals.storage.gateway.cors import (
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
    """What the bucket's rules say of a request; None: nothing."""
    origin = request.header("origin")
    if not origin:
        return None
    method = request.header(_METHOD) or request.method
    asked = [name.strip() for name in request.header(_HEADERS).split(",") if name.strip()]
    return first_answer(decode_rules(bucket.settings.get(CORS, b"")), origin, method, asked)


async def _read_rules(x: Exchange) -> bytes:
    return encode_rules(rules_of_document(await x.document()))


def _show_rules(data: bytes) -> Response:
    return answer("CORSConfiguration", *[rule_node(rule) for rule in decode_rules(data)])


RULES: Final = Setting(CORS, "BucketCORS", "NoSuchCORSConfiguration", _read_rules, _show_rules)
