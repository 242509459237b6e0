"""Lifecycle configurations."""

from __future__ import annotations

from fallow.verticals.storage.client.seals import is_own
from fallow.verticals.storage.gateway.access import check_owner
from fallow.verticals.storage.gateway.errors import S3Error
from fallow.verticals.storage.gateway.exchange import Exchange
from fallow.verticals.storage.gateway.lifecycle import (
    LIFECYCLE,
    decode_lifecycle,
    encode_lifecycle,
    lifecycle_node,
    lifecycle_of_document,
)
from fallow.verticals.storage.gateway.respond import Response, answer
from fallow.verticals.storage.gateway.routes.settings import keep


async def get_lifecycle(x: Exchange) -> Response:
    """The rules."""
    check_owner(x, "s3:GetLifecycleConfiguration")
    rules = decode_lifecycle(x.bucket.settings.get(LIFECYCLE, b""))
    if not rules:
        raise S3Error("NoSuchLifecycleConfiguration")
    return answer("LifecycleConfiguration", *[lifecycle_node(rule) for rule in rules])


async def put_lifecycle(x: Exchange) -> Response:
    """Replace the rules, where somebody carries them out: hosted gateways do, where they can read the names."""
    check_owner(x, "s3:PutLifecycleConfiguration")
    if is_own(x.bucket):
        raise S3Error("NotImplemented", "Nobody but you can read this bucket's names, and so carry rules out.")
    await keep(x, LIFECYCLE, encode_lifecycle(lifecycle_of_document(await x.document())))
    return Response()


async def delete_lifecycle(x: Exchange) -> Response:
    """Drop the rules."""
    check_owner(x, "s3:PutLifecycleConfiguration")
    await keep(x, LIFECYCLE, None)
    return Response(204)
