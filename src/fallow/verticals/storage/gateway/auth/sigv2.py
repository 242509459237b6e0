"""Signatures of version 2: HMAC-SHA1 over a few headers, which old clients still send. Pure."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping, Sequence
from typing import Final

_SIGNED: Final = frozenset({
    "acl", "accelerate", "analytics", "cors", "defaultObjectAcl", "delete", "encryption", "inventory", "legal-hold",
    "lifecycle", "location", "logging", "metrics", "notification", "object-lock", "ownershipControls", "partNumber",
    "policy", "policyStatus", "publicAccessBlock", "replication", "requestPayment", "response-cache-control",
    "response-content-disposition", "response-content-encoding", "response-content-language", "response-content-type",
    "response-expires", "restore", "retention", "select", "select-type", "tagging", "torrent", "uploadId", "uploads",
    "versionId", "versioning", "versions", "website",
})  # fmt: skip
"""The parameters of the query that are signed."""


def to_sign(method: str, path: str, query: Sequence[tuple[str, str]], headers: Mapping[str, str], date: str) -> str:
    """The text that a signature is of. `date` is a header's or an expiry's."""
    amz = sorted((name, value) for name, value in headers.items() if name.startswith("x-amz-"))
    resource = path
    if resource.count("/") == 1 and resource != "/":
        resource += "/"  # a bucket alone is signed so, with whichever path it is sent
    signed = [f"{name}={value}" if value else name for name, value in sorted(query) if name in _SIGNED]
    if signed:
        resource += "?" + "&".join(signed).encode().decode("latin-1")  # as headers stand here: a character for a byte
    lines = [method, headers.get("content-md5", ""), headers.get("content-type", ""), date]
    return "\n".join([*lines, *(f"{name}:{value}" for name, value in amz), resource])


def sign(secret: str, text: str) -> str:
    """Sign, in base64."""
    return base64.b64encode(hmac.digest(secret.encode(), text.encode("latin-1"), "sha1")).decode()
