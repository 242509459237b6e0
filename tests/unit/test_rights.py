"""Who may ask for what: every route of the control API, with a key of each scope alone and with none."""

from __future__ import annotations

import re
from typing import Final

import httpx2
from litestar.routes import HTTPRoute

from fallow.domain.calls.keys import KeyInfo
from fallow.http.limits import Limits
from fallow.ports.rates import Rate
from fallow.services.registry.service import SCOPES
from tests.unit.fake_network import BUYER, FakeNetwork, fake_network

BUY: Final = frozenset({"buy"})
PROVIDE: Final = frozenset({"provide", "withdraw"})
WITHDRAW: Final = frozenset({"withdraw"})
HOLD: Final = frozenset({"buy", "provide", "withdraw"})
OPERATE: Final = frozenset({"operate"})
VIEW: Final = frozenset({"operate", "view"})
BOTH: Final = frozenset[str]()
"""A scope alone is not enough: planting work needs `buy` and `operate`."""

RIGHTS: Final = {
    HOLD: (
        "GET /v1/account",
        "GET /v1/account/statement",
        "GET /v1/account/budget",
        "GET /v1/account/alerts",
        "GET /v1/account/alerts/to",
        "POST /v1/account/alerts/to/{kind}",
        "POST /v1/account/alerts/confirm",
        "DELETE /v1/account/alerts/to/{kind}",
    ),
    WITHDRAW: (
        "PUT /v1/account/budget",
        "POST /v1/account/payout",
        "POST /v1/account/redirections",
        "POST /v1/account/withdrawals",
    ),
    PROVIDE: (
        "GET /v1/account/nodes",
        "GET /v1/account/nodes/{node}/rules",
        "POST /v1/account/nodes/{node}/rules",
        "GET /v1/account/earnings",
        "POST /v1/account/verticals/{vertical}/{call}",
    ),
    BUY: (
        "GET /v1/account/spending",
        "GET /v1/account/signing-secret",
        "POST /v1/account/links",
        "GET /v1/account/api-keys",
        "POST /v1/account/api-keys",
        "DELETE /v1/account/api-keys/{key_id}",
        "GET /v1/account/keys",
        "POST /v1/account/keys",
        "DELETE /v1/account/keys/{key}",
        "GET /v1/subscriptions",
        "POST /v1/subscriptions",
        "DELETE /v1/subscriptions/{subscription_id}",
        "POST /v1/stake/take",
        "POST /v1/verticals/{vertical}/{call}",
        "POST /v1/quotes",
        "GET /v1/jobs",
        "POST /v1/jobs",
        "GET /v1/jobs/{job_id}",
        "GET /v1/jobs/{job_id}/items",
        "GET /v1/jobs/{job_id}/leases",
        "GET /v1/jobs/{job_id}/order",
        "GET /v1/jobs/{job_id}/evidence",
        "GET /v1/jobs/{job_id}/elsewhere",
        "GET /v1/jobs/{job_id}/events",
        "POST /v1/jobs/{job_id}/cancel",
        "POST /v1/jobs/{job_id}/receipts",
        "GET /v1/jobs/{job_id}/items/{index}/logs",
        "POST /v1/jobs/{job_id}/items/{index}/exec",
        "POST /v1/jobs/{job_id}/items/{index}/streams",
        "GET /v1/blobs/{sha256}",
        "HEAD /v1/blobs/{sha256}",
        "PUT /v1/blobs/{sha256}",
    ),
    OPERATE: (
        "GET /metrics",
        "POST /v1/operator/tokens",
        "DELETE /v1/operator/tokens/{token_id}",
        "POST /v1/operator/keys",
        "DELETE /v1/operator/keys/{key_id}",
        "POST /v1/operator/credits",
        "POST /v1/operator/audits",
        "POST /v1/operator/actions",
        "POST /v1/operator/price",
        "POST /v1/operator/fee",
        "POST /v1/operator/tariff",
        "POST /v1/operator/epochs",
        "POST /v1/operator/verticals/{vertical}/{call}",
    ),
    VIEW: (
        "GET /v1/operator/keys",
        "GET /v1/operator/tokens",
        "GET /v1/operator/ledger-check",
        "GET /v1/operator/audits",
        "GET /v1/operator/reserve",
        "GET /v1/operator/blobs",
        "GET /v1/operator/health",
        "GET /v1/operator/running",
        "GET /v1/operator/nodes-over-time",
        "GET /v1/operator/governance",
        "GET /v1/operator/accounts/{account_id}/balance",
        "GET /v1/operator/evidence",
        "GET /v1/operator/reruns",
        "GET /v1/operator/actions",
        "GET /v1/operator/nodes",
        "GET /v1/operator/bans",
        "GET /v1/operator/prices",
        "POST /v1/operator/what-if",
    ),
    BOTH: ("POST /v1/operator/canaries",),
}
"""Who may ask for what a key is needed for, by the scopes of which one is enough."""

SIGNED: Final = {
    "POST /v1/join",
    "POST /v1/session",
    "POST /v1/session/challenge",
    "POST /v1/session/wallet",
    "DELETE /v1/session",
    "POST /v1/checks/pledges",
    "POST /v1/checks/parts",
    "POST /v1/epochs/{epoch}/votes",
    "POST /v1/price",
    "POST /v1/payouts",
    "POST /v1/owners-keys",
    "POST /v1/alerts/stop/{token}",
    "POST /v1/alerts/stop/{token}/page",
}
"""What changes something and needs no key: it goes by what stands in the request itself."""


def routes(network: FakeNetwork) -> set[str]:
    """All that can be asked, as in the tables above."""
    found = {
        f"{method} {route.path_format}"
        for route in network.app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        for method in handler.http_methods
    }
    return {route for route in found if not route.startswith("OPTIONS")}


async def test_every_route_is_for_whom_it_is_meant_and_for_nobody_else() -> None:
    roomy = Rate(100_000.0, 100_000)
    async with fake_network(Limits(address=roomy, key=roomy)) as network, client(network) as http:
        network.keys |= {scope: KeyInfo(key_id=scope, account=BUYER, scopes=[scope]) for scope in SCOPES}
        for scopes, listed in RIGHTS.items():
            for route in listed:
                assert await code(http, route, "") == "auth.missing", route
                for scope in SCOPES - scopes:
                    assert await code(http, route, scope) == "scope.missing", (route, scope)
                for scope in scopes:
                    assert await code(http, route, scope) not in ("auth.missing", "auth.key", "scope.missing"), route


async def test_nothing_is_served_that_is_not_in_the_table_or_for_everybody() -> None:
    async with fake_network() as network:
        found = routes(network)
    keyed = {route for listed in RIGHTS.values() for route in listed}
    rest = found - keyed - SIGNED
    assert keyed | SIGNED <= found
    assert [route for route in rest if not route.startswith("GET ")] == []
    assert [route for route in rest if route.startswith(("GET /v1/account", "GET /v1/operator", "GET /v1/jobs"))] == []


async def test_who_plants_work_may_buy_and_operate() -> None:
    async with fake_network() as network, client(network) as http:
        network.keys["both"] = KeyInfo(key_id="both", account=BUYER, scopes=["buy", "operate"])
        assert await code(http, "POST /v1/operator/canaries", "both") == "http.invalid"


def client(network: FakeNetwork) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app=network.app, client=("127.0.0.1", 1))  # type: ignore[arg-type]
    return httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1")


async def code(http: httpx2.AsyncClient, route: str, key: str) -> str:
    """How a request is refused; "" where it is not."""
    method, path = route.split(" ")
    url = re.sub(r"{(epoch|index)}", "0", re.sub(r"{(?!epoch|index)\w+}", "a" * 64, path))
    answer = await http.request(method, url, headers={"Authorization": f"Bearer {key}"} if key else {}, json={})
    if method == "HEAD" and answer.is_error:  # an answer without a body
        return {401: "auth.missing", 403: "scope.missing"}.get(answer.status_code, "http")
    return str(answer.json()["code"]) if answer.is_error else ""
