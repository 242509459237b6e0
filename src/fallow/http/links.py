"""Addresses that are signed for whoever has signed in: a browser moves bytes with them, and never learns a secret.

What signs is the API key that asks, or that the session was opened with: they end with it (ADR 62). For a session of a
wallet it is a key of the account that nobody was told (ADR 64).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from litestar import Request, post
from litestar.params import JSONBody
from msgspec import Meta

from fallow.domain import calls
from fallow.domain.api_keys import read_key
from fallow.domain.errors import InvalidInput, NotFound
from fallow.domain.views.keys import KeyView, LinksView
from fallow.domain.views.network import NetworkView
from fallow.http.answers import keyed
from fallow.http.auth import buyer
from fallow.http.gateway import Gateway
from fallow.http.params import Parts
from fallow.http.public import host_of
from fallow.ports.vertical.gateway import SignedRequest, Signer
from fallow.ports.vertical.plugin import Vertical

LINKS_MAX = 100
CHANGING_S_MAX = 900
WALLETS_LABEL = "console, by wallet"
"""Of the key that signs for sessions of an account's wallet. Its holder sees it among his keys, and may revoke it."""

KEYS_PAGE = 1000
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
    valid_s: Annotated[int, Meta(ge=1, le=calls.keys.LINK_S_MAX)] = 300
    shared: bool = False


@post("/v1/account/links", guards=[buyer], status_code=200, responses=keyed(404, 413), tags=["account"])
async def sign_links(
    gateway: Parts, request: Request[Any, calls.keys.KeyInfo, Any], data: JSONBody[NewLinks]
) -> LinksView:
    """Sign requests in their addresses: whoever has one may send it, as you, until it ends or your key does.

    What changes something is signed for a quarter of an hour at most.
    """
    vertical = _vertical_of(gateway, data.role)
    if data.valid_s > CHANGING_S_MAX and any(asked.method not in {"GET", "HEAD"} for asked in data.requests):
        raise InvalidInput("link.long", f"What changes something is signed for {CHANGING_S_MAX} seconds at most.")
    key_id = request.auth.key_id or await _wallets_key(gateway, request.auth.account)
    found = await gateway.ask(calls.keys.SIGNING_SECRET, calls.keys.KeyRef(key_id=key_id), calls.keys.SigningSecret)
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


async def _wallets_key(gateway: Gateway, account: str) -> str:
    """Find the key that signs where a wallet has signed in; without one it is made, and its secret forgotten."""
    if found := await _known_wallets_key(gateway, account):
        return found
    async with gateway.making_keys:
        if found := await _known_wallets_key(gateway, account):
            return found
        gateway.words.take(account)  # it stays for ever, as what its holder makes does
        asked = calls.keys.CreateKey(account=account, scopes=["buy"], label=WALLETS_LABEL)
        return read_key((await gateway.ask(calls.keys.CREATE_KEY, asked, calls.keys.Secret)).secret).key_id


async def _known_wallets_key(gateway: Gateway, account: str) -> str:
    after = ""
    while keys := await gateway.ask(
        calls.keys.OWN_KEYS, calls.base.AccountRef(account=account, after=after, limit=KEYS_PAGE), list[KeyView]
    ):
        for key in keys:
            if key.label == WALLETS_LABEL and key.revoked_at is None and key.scopes == ["buy"]:
                return key.key_id
        after = keys[-1].key_id
    return ""


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
