"""Finds out who sent a request, and how its body is to be read."""

from __future__ import annotations

import hmac
import re
from typing import Final, NamedTuple

from fallow.verticals.storage.gateway.auth import sigv2
from fallow.verticals.storage.gateway.auth.chunked import ChunkSigning
from fallow.verticals.storage.gateway.auth.sigv4 import (
    ALGORITHM,
    Credential,
    canonical_request,
    read_credential,
    signature,
    signing_key,
    string_to_sign,
)
from fallow.verticals.storage.gateway.errors import S3Error
from fallow.verticals.storage.gateway.request import Request
from fallow.verticals.storage.gateway.times import basic, read_http
from fallow.verticals.storage.gateway.users import User, Users

SKEW_MS: Final = 15 * 60_000
EXPIRES_S_MAX: Final = 7 * 86_400
UNSIGNED: Final = "UNSIGNED-PAYLOAD"
_UNSIGNED_TRAILER: Final = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
_SHA256: Final = re.compile(r"^[0-9a-f]{64}\Z")
_AT: Final = re.compile(r"^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z\Z")
_STREAMING: Final = "STREAMING-"
_WORDS: Final = frozenset(
    {
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
        _UNSIGNED_TRAILER,
    }
)


class Caller(NamedTuple):
    """Who asks (None: nobody in particular), and how the body comes.

    `sha256` is what its content must have ("" where nothing is said of it); `chunked`: in aws-chunked form, with
    `signing` where chunks are signed. `how` and `version` are words for policies.
    """

    user: User | None = None
    sha256: str = ""
    chunked: bool = False
    signing: ChunkSigning | None = None
    how: str = ""
    version: str = ""

    @property
    def account(self) -> str:
        """The account that asks; "" for nobody in particular."""
        return self.user.account if self.user else ""

    @property
    def key(self) -> str:
        """The API key by which it asks."""
        return self.user.access_key if self.user else ""


async def find_caller(request: Request, users: Users, now_ms: int) -> Caller:
    """Check the signature of a request, in its headers or its query.

    Raises:
        S3Error: AccessDenied, InvalidAccessKeyId, SignatureDoesNotMatch, RequestTimeTooSkewed, and such.
    """
    authorization = request.headers.get("authorization")
    if authorization is not None:
        if authorization.startswith(ALGORITHM):
            return await _by_header(request, users, now_ms, authorization)
        if authorization.startswith("AWS "):
            return await _by_header_2(request, users, now_ms, authorization)
        raise S3Error("AccessDenied", "The authorization header is of no known kind.")
    if request.has("X-Amz-Algorithm"):
        return await _by_query(request, users, now_ms)
    if request.has("AWSAccessKeyId"):
        return await _by_query_2(request, users, now_ms)
    word = request.header("x-amz-content-sha256", UNSIGNED)
    return _caller(request, None, word, None, "", "")


async def known_user(users: Users, access_key: str) -> User:
    """Look a key up.

    Raises:
        S3Error: InvalidAccessKeyId.
    """
    user = await users.user(access_key)
    if user is None:
        raise S3Error("InvalidAccessKeyId")
    return user


async def _by_header(request: Request, users: Users, now_ms: int, authorization: str) -> Caller:
    said = (part.strip().partition("=") for part in authorization[len(ALGORITHM) :].split(","))
    parts = {name: value for name, _, value in said}
    credential = read_credential(parts.get("Credential", ""))
    signed = parts.get("SignedHeaders", "").split(";")
    sent = parts.get("Signature", "")
    if credential is None or not sent or "host" not in signed:
        raise S3Error("AuthorizationHeaderMalformed")
    at = request.header("x-amz-date") or _basic(request.header("date"))
    at_ms = _read_at(at)
    if at_ms is None:
        raise S3Error("AccessDenied", "A signed request has an x-amz-date or a date.")
    if abs(at_ms - now_ms) > SKEW_MS:
        raise S3Error("RequestTimeTooSkewed")
    user = await known_user(users, credential.access_key)
    word = request.header("x-amz-content-sha256")
    if not word:
        raise S3Error("InvalidRequest", "A signed request has an x-amz-content-sha256.")
    key = _check(request, user, credential, at, signed, word, sent)
    signing = ChunkSigning(key, at, credential.scope, sent)
    return _caller(request, user, word, signing, "REST-HEADER", ALGORITHM)


async def _by_query(request: Request, users: Users, now_ms: int) -> Caller:
    credential = read_credential(request.arg("X-Amz-Credential"))
    at = request.arg("X-Amz-Date")
    at_ms = _read_at(at)
    signed = request.arg("X-Amz-SignedHeaders").split(";")
    if request.arg("X-Amz-Algorithm") != ALGORITHM or credential is None or at_ms is None or "host" not in signed:
        raise S3Error("AuthorizationQueryParametersError")
    expires = request.arg("X-Amz-Expires")
    if not re.match(r"^\d{1,9}\Z", expires) or not 0 < int(expires) <= EXPIRES_S_MAX:
        raise S3Error("AuthorizationQueryParametersError", "X-Amz-Expires is from 1 to 604800 seconds.", status=403)
    if at_ms - now_ms > SKEW_MS:
        raise S3Error("RequestTimeTooSkewed")
    if at_ms + int(expires) * 1000 < now_ms:
        raise S3Error("AccessDenied", "The URL has expired.")
    user = await known_user(users, credential.access_key)
    word = request.header("x-amz-content-sha256") or request.arg("X-Amz-Content-Sha256") or UNSIGNED
    key = _check(request, user, credential, at, signed, word, request.arg("X-Amz-Signature"))
    signing = ChunkSigning(key, at, credential.scope, request.arg("X-Amz-Signature"))
    return _caller(request, user, word, signing, "REST-QUERY-STRING", ALGORITHM)


def _check(
    request: Request, user: User, credential: Credential, at: str, signed: list[str], word: str, sent: str
) -> bytes:
    """Check a signature and give the key that made it."""
    if not all(name.isascii() for name in signed):
        raise S3Error("AuthorizationHeaderMalformed", "Names of headers are plain ASCII.")
    if credential.scope.service != "s3" or at[:8] != credential.scope.date:
        raise S3Error("AuthorizationHeaderMalformed", "The signature is for another service or another day.")
    key = signing_key(user.secret, credential.scope)
    canonical = canonical_request(request.method, request.path, request.raw_query, request.headers, signed, word)
    right = signature(key, string_to_sign(at, credential.scope, canonical))
    if not hmac.compare_digest(right.encode(), sent.encode("latin-1", "replace")):
        raise S3Error("SignatureDoesNotMatch")
    covered = request.from_query.union(signed)  # all of the query is signed
    missing = [name for name in request.headers if name.startswith("x-amz-") and name not in covered]
    if missing and not _harmless(missing):
        raise S3Error("AccessDenied", f"Headers were not signed: {', '.join(missing)}.")
    return key


def _harmless(names: list[str]) -> bool:
    """A digest of the content cannot be abused by who cannot sign."""
    return all(name == "x-amz-content-sha256" or name.startswith("x-amz-checksum-") for name in names)


async def _by_header_2(request: Request, users: Users, now_ms: int, authorization: str) -> Caller:
    access_key, colon, sent = authorization.removeprefix("AWS ").strip().rpartition(":")
    if not colon:
        raise S3Error("InvalidArgument", "The authorization header is malformed.")
    amz = request.header("x-amz-date")
    at_ms = read_http(amz or request.header("date"))
    if at_ms is None or at_ms < 0:
        raise S3Error("AccessDenied", "A signed request has a date.")
    if abs(at_ms - now_ms) > SKEW_MS:
        raise S3Error("RequestTimeTooSkewed")
    user = await known_user(users, access_key)
    _check_2(request, user, "" if amz else request.header("date"), sent)
    return _caller(request, user, UNSIGNED, None, "REST-HEADER", "AWS")


async def _by_query_2(request: Request, users: Users, now_ms: int) -> Caller:
    expires = request.arg("Expires")
    if not re.match(r"^\d{1,12}\Z", expires) or int(expires) * 1000 < now_ms:
        raise S3Error("AccessDenied", "The URL has expired.")
    user = await known_user(users, request.arg("AWSAccessKeyId"))
    _check_2(request, user, expires, request.arg("Signature"))
    return _caller(request, user, UNSIGNED, None, "REST-QUERY-STRING", "AWS")


def _check_2(request: Request, user: User, date: str, sent: str) -> None:
    path = request.path.decode("latin-1")
    text = sigv2.to_sign(request.method, path, request.query, request.headers, request.hosted, date)
    if not hmac.compare_digest(sigv2.sign(user.secret, text).encode(), sent.encode("latin-1", "replace")):
        raise S3Error("SignatureDoesNotMatch")


def _caller(
    request: Request, user: User | None, word: str, signing: ChunkSigning | None, how: str, version: str
) -> Caller:
    if word == UNSIGNED and "x-amz-trailer" in request.headers:
        word = _UNSIGNED_TRAILER  # who signs nothing says nothing of the body; what trails is in chunks, always
    if word.startswith(_STREAMING):
        if word not in _WORDS or (signing is None and "HMAC" in word):
            raise S3Error("NotImplemented", f"Bodies of the kind {word} are not read here.")
        return Caller(user, "", True, signing if "HMAC" in word else None, how, version)
    if word == UNSIGNED:
        return Caller(user, "", False, None, how, version)
    if not _SHA256.match(word):
        raise S3Error("InvalidArgument", "x-amz-content-sha256 is not a SHA-256 in hex, nor a word for one.")
    return Caller(user, word, False, None, how, version)


def _basic(date: str) -> str:
    """An HTTP date as the signature has it, like 20260131T235959Z; what is none stays as it is."""
    at_ms = read_http(date)
    return basic(at_ms) if at_ms is not None else date


def _read_at(at: str) -> int | None:
    found = _AT.match(at)
    return read_http("{}-{}-{}T{}:{}:{}+00:00".format(*found.groups())) if found else None
