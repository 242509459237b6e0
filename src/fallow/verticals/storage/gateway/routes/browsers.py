"""What browsers need: cross-origin rules, and the question that they ask before a request."""

from __future__ import annotations

from fallow.verticals.storage.core.calls import Bucket
from fallow.verticals.storage.gateway.access import check_owner
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
from fallow.verticals.storage.gateway.routes.settings import keep

_METHOD = "access-control-request-method"
_HEADERS = "access-control-request-headers"


async def get_cors(x: Exchange) -> Response:
    """The rules."""
    check_owner(x, "s3:GetBucketCORS")
    rules = decode_rules(x.bucket.settings.get(CORS, b""))
    if not rules:
        raise S3Error("NoSuchCORSConfiguration")
    return answer("CORSConfiguration", *[rule_node(rule) for rule in rules])


async def put_cors(x: Exchange) -> Response:
    """Replace the rules."""
    check_owner(x, "s3:PutBucketCORS")
    await keep(x, CORS, encode_rules(rules_of_document(await x.document())))
    return Response()


async def delete_cors(x: Exchange) -> Response:
    """Drop the rules."""
    check_owner(x, "s3:PutBucketCORS")
    await keep(x, CORS, None)
    return Response(204)


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
