"""Signatures of version 4, as the protocol fixes them. Pure."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import quote_from_bytes, unquote_to_bytes

ALGORITHM: Final = "AWS4-HMAC-SHA256"
EMPTY_SHA256: Final = hashlib.sha256(b"").hexdigest()
_SAFE: Final = "-_.~"
_SPACES: Final = re.compile("[ \t]+")


class Scope(NamedTuple):
    """What a signature is good for: a day, a region, a service."""

    date: str
    region: str
    service: str

    def __str__(self) -> str:
        return f"{self.date}/{self.region}/{self.service}/aws4_request"


class Credential(NamedTuple):
    """Whose key signed, and for what."""

    access_key: str
    scope: Scope


def read_credential(text: str) -> Credential | None:
    """Read KEY/DATE/REGION/SERVICE/aws4_request; None: it is not that."""
    parts = text.rsplit("/", 4)
    if not text.isascii() or len(parts) != 5 or parts[4] != "aws4_request" or not parts[0]:  # noqa: PLR2004 - the five parts named above
        return None
    return Credential(parts[0], Scope(parts[1], parts[2], parts[3]))


def signing_key(secret: str, scope: Scope) -> bytes:
    """Derive the key that signs within a scope."""
    key = f"AWS4{secret}".encode()
    for part in (scope.date, scope.region, scope.service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def signature(key: bytes, text: str) -> str:
    """Sign, in hex."""
    return hmac.digest(key, text.encode("latin-1"), "sha256").hex()


def canonical_request(
    method: str,
    path: bytes,
    raw_query: bytes,
    headers: Mapping[str, str],
    signed: Sequence[str],
    payload: str,
) -> str:
    """What is signed of a request. `headers` have lower-case names; `payload` is its SHA-256 in hex, or a word for it.

    A parameter X-Amz-Signature of the query is left out.
    """
    lines = [method, _encoded(unquote_to_bytes(path or b"/"), "/"), canonical_query(raw_query)]
    lines += [f"{name}:{_SPACES.sub(' ', headers.get(name, '')).strip(' ')}" for name in signed]
    return "\n".join([*lines, "", ";".join(signed), payload])


def canonical_query(raw_query: bytes, without: Iterable[bytes] = (b"X-Amz-Signature",)) -> str:
    """Sort a query and encode it anew; "+" is a space in values, as for who reads them."""
    left_out = frozenset(without)
    pairs = []
    for part in raw_query.split(b"&"):
        name, _, value = part.partition(b"=")
        if part and name not in left_out:
            pairs.append((_encoded(unquote_to_bytes(name)), _encoded(unquote_to_bytes(value.replace(b"+", b" ")))))
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def string_to_sign(at: str, scope: Scope, canonical: str) -> str:
    """The text that the signature is of. `at` is like 20260131T235959Z."""
    digest = hashlib.sha256(canonical.encode("latin-1")).hexdigest()
    return "\n".join([ALGORITHM, at, str(scope), digest])


def chunk_to_sign(at: str, scope: Scope, before: str, digest: str) -> str:
    """The text that the signature of one chunk is of; `before` is the signature before it."""
    return "\n".join([f"{ALGORITHM}-PAYLOAD", at, str(scope), before, EMPTY_SHA256, digest])


def trailer_to_sign(at: str, scope: Scope, before: str, digest: str) -> str:
    """The text that the signature of the trailing headers is of."""
    return "\n".join([f"{ALGORITHM}-TRAILER", at, str(scope), before, digest])


def _encoded(data: bytes, also: str = "") -> str:
    return quote_from_bytes(data, _SAFE + also)
