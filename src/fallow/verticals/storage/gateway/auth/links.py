"""Addresses that are signed themselves: whoever has one may send that request, until its time is over. Pure."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote, urlencode, urlsplit

from fallow.ports.vertical.gateway import SignedRequest, Signer
from fallow.verticals.storage.gateway.auth.caller import UNSIGNED
from fallow.verticals.storage.gateway.auth.sigv4 import (
    ALGORITHM,
    Scope,
    canonical_request,
    signature,
    signing_key,
    string_to_sign,
)
from fallow.verticals.storage.gateway.times import basic

REGION: Final = "fallow"
_SAFE: Final = "-_.~"


def signed_link(url: str, signer: Signer, request: SignedRequest, at_ms: int) -> str:
    """Return the address of a request to the gateway at `url`, which counts from `at_ms` on (milliseconds since 1970).

    Only the host is signed besides the line of the request: its body may be any.
    """
    base = urlsplit(url)
    host = base.netloc.removesuffix({"http": ":80", "https": ":443"}[base.scheme])  # as browsers and libraries send it
    at = basic(at_ms)
    scope = Scope(at[:8], REGION, "s3")
    said = {
        **request.query,
        "X-Amz-Algorithm": ALGORITHM,
        "X-Amz-Credential": f"{signer.access_key}/{scope}",
        "X-Amz-Date": at,
        "X-Amz-Expires": str(request.valid_s),
        "X-Amz-SignedHeaders": "host",
    }
    path, query = quote(request.path, safe=f"/{_SAFE}"), urlencode(said, quote_via=quote, safe=_SAFE)
    canonical = canonical_request(request.method, path.encode(), query.encode(), {"host": host}, ["host"], UNSIGNED)
    sealed = signature(signing_key(signer.secret, scope), string_to_sign(at, scope, canonical))
    return f"{base.scheme}://{host}{path}?{query}&X-Amz-Signature={sealed}"
