"""Lifecycle configurations."""

from __future__ import annotations

from typing import Final

from fallow.verticals.storage.client.seals import is_own
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
from fallow.verticals.storage.gateway.routes.settings import Setting


async def _read_rules(x: Exchange) -> bytes:
    """Rules are for hosted gateways, which carry them out where they can read the names."""
    if is_own(x.bucket):
        raise S3Error("NotImplemented", "Nobody but you can read this bucket's names, and so carry rules out.")
    return encode_lifecycle(lifecycle_of_document(await x.document()))


def _show_rules(data: bytes) -> Response:
    return answer("LifecycleConfiguration", *[lifecycle_node(rule) for rule in decode_lifecycle(data)])


RULES: Final = Setting(LIFECYCLE, "LifecycleConfiguration", "NoSuchLifecycleConfiguration", _read_rules, _show_rules)
