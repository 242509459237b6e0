"""Addresses that are signed for whoever has signed in: a browser moves bytes with them, and never learns a secret.

What signs is the API key that asks, or that the session was opened with: they end with it (ADR 62).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from litestar import Request, post
from litestar.params import JSONBody
from msgspec import Meta

from fallow.domain import calls
from fallow.domain.errors import InvalidInput, NotAllowed, NotFound
from fallow.domain.views import NetworkView, View
from fallow.http.answers import keyed
from fallow.http.auth import buyer
from fallow.http.gateway import Gateway
from fallow.http.params import Parts
from fallow.http.public import host_of
from fallow.ports.vertical import SignedRequest, Signer, Vertical

LINKS_MAX = 100
SHARED_S_MAX = 7 * 86_400
"""A week: no longer does S3 take one (Signature Version 4)."""

CHANGING_S_MAX = 900
Text = Annotated[str, Meta(min_length=1, max_length=2048)]


class ToSign(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request to a gateway; its path and query are plain text, not encoded."""

    path: Annotated[str, Meta(pattern="^/", max_length=2048)]
    method: Literal["GET", "HEAD", "PUT", "POST", "DELETE"] = "GET"
    query: Annotated[dict[Text, Annotated[str, Meta(max_length=2048)]], Meta(max_length=20)] = {}


class NewLinks(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Requests to the gateway of a `role`, such as `s3`, to be signed for `valid_s` seconds.

    The addresses are for whoever asks: they are at the host by which he came. With `shared` they are for others.
    """

    role: Annotated[str, Meta(min_length=1, max_length=64)]
    requests: Annotated[list[ToSign], Meta(min_length=1, max_length=LINKS_MAX)]
    valid_s: Annotated[int, Meta(ge=1, le=SHARED_S_MAX)] = 300
    shared: bool = False


class LinksView(View, frozen=True, kw_only=True):
    """Addresses in the order of what was asked for; they end at `ends_at` (milliseconds since 1970)."""

    urls: list[str]
    ends_at: int


@post("/v1/account/links", guards=[buyer], status_code=200, responses=keyed(404, 413), tags=["account"])
async def sign_links(gateway: Parts, request: Request[Any, calls.KeyInfo, Any], data: JSONBody[NewLinks]) -> LinksView:
    """Sign requests in their addresses: whoever has one may send it, as you, until it ends or your key does.

    What changes something is signed for a quarter of an hour at most.
    """
    vertical = _vertical_of(gateway, data.role)
    if data.valid_s > CHANGING_S_MAX and any(asked.method not in {"GET", "HEAD"} for asked in data.requests):
        raise InvalidInput("link.long", f"What changes something is signed for {CHANGING_S_MAX} seconds at most.")
    if not request.auth.key_id:
        hint = "Make an API key of your account, and sign in with that."
        raise NotAllowed("link.wallet", "A session that a wallet has opened has no key to sign with.", hint)
    found = await gateway.ask(calls.SIGNING_SECRET, calls.KeyRef(key_id=request.auth.key_id), calls.SigningSecret)
    host = "" if data.shared else request.headers.get("Host", "")
    url, now_ms = gateway_url(gateway.network, data.role, host), gateway.clock.now_ms()
    signer = Signer(found.info.key_id, found.secret)
    urls = [
        vertical.link(
            data.role, url, signer, SignedRequest(asked.method, asked.path, asked.query, data.valid_s), now_ms
        )
        for asked in data.requests
    ]
    return LinksView(urls=urls, ends_at=(now_ms // 1000 + data.valid_s) * 1000)


def gateway_url(network: NetworkView, role: str, host: str) -> str:
    """Return where the gateway of a role is for who came by `host` (a Host header); by "" where it is for everybody.

    Gateways are at the host of the control API, on ports of their own.
    """
    published = urlsplit(network.gateways[role])
    came_by = host_of(host)
    return f"{published.scheme}://{came_by}:{published.port}" if came_by else network.gateways[role]


def _vertical_of(gateway: Gateway, role: str) -> Vertical:
    for vertical in gateway.verticals.values():
        if role in vertical.gateways and role in gateway.network.gateways:
            return vertical
    raise NotFound("link.no_gateway", f"This network has no gateway {role[:64]!r}.")


ROUTES = [sign_links]
