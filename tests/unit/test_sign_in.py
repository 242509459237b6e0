"""Signing in with a browser: the cookie, what it opens, and what other pages cannot do with it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator
from http.cookies import SimpleCookie

import httpx2
import msgspec
import pytest
from coincurve import PrivateKey
from litestar.routes import HTTPRoute

from fallow.bootstrap.http_server import serving
from fallow.bootstrap.proxies import read_proxies
from fallow.domain.calls.base import Person
from fallow.domain.identity import address_text
from fallow.domain.wallets import address_of, sign_text
from fallow.http.limits import Limits
from fallow.http.sessions import CSRF_HEADER
from fallow.ports.rates import Rate
from tests.unit.fake_network import (
    BUYER,
    BUYER_KEY,
    NET,
    OPERATOR,
    OPERATOR_KEY,
    OTHER_KEY,
    VIEWER,
    VIEWER_KEY,
    FakeNetwork,
    fake_network,
)
from tests.unit.http_world import refused

HERE = {"Sec-Fetch-Site": "same-origin"}
WALLET = PrivateKey(b"\x07" * 32)
WALLET_ACCOUNT = address_text(address_of(WALLET))


OPEN = {
    ("post", "/v1/join"),
    ("post", "/v1/session"),
    ("delete", "/v1/session"),
    ("post", "/v1/session/challenge"),
    ("post", "/v1/session/wallet"),
    ("post", "/v1/checks/pledges"),
    ("post", "/v1/checks/parts"),
    ("post", "/v1/epochs/{epoch}/votes"),
    ("post", "/v1/price"),
    ("post", "/v1/payouts"),
    ("post", "/v1/owners-keys"),
    ("post", "/v1/alerts/stop/{token}"),
}
"""What asks for no key: it goes by what the request itself carries; of a session only to end it (its test is below)."""


@pytest.fixture
async def http(network: FakeNetwork) -> AsyncIterator[httpx2.AsyncClient]:
    async with browser(network) as client:
        yield client


def browser(network: FakeNetwork, scheme: str = "http") -> httpx2.AsyncClient:
    """A browser at the console: it keeps cookies, and says where its requests come from."""
    transport = httpx2.ASGITransport(app=network.app, raise_app_exceptions=False, client=("127.0.0.1", 1))  # type: ignore[arg-type]
    return httpx2.AsyncClient(transport=transport, base_url=f"{scheme}://127.0.0.1", headers=HERE)


async def signed_in(http: httpx2.AsyncClient, key: str = BUYER_KEY) -> dict[str, str]:
    """Sign in; the headers that let a request change something."""
    answer = await http.post("/v1/session", json={"key": key})
    assert answer.status_code == 201, answer.text
    return {CSRF_HEADER: answer.json()["csrf"]}


@pytest.mark.parametrize(("scheme", "name"), [("http", f"fallow-{NET}"), ("https", f"__Host-fallow-{NET}")])
async def test_the_cookie_is_for_this_host_alone_and_no_script_reads_it(
    network: FakeNetwork, scheme: str, name: str
) -> None:
    async with browser(network, scheme) as http:
        answer = await http.post("/v1/session", json={"key": BUYER_KEY})
        (morsel,) = SimpleCookie(answer.headers["Set-Cookie"]).values()
        assert morsel.key == name
        assert (morsel["httponly"], morsel["samesite"], morsel["path"], morsel["domain"]) == (True, "Strict", "/", "")
        assert (bool(morsel["secure"]), morsel["max-age"]) == (scheme == "https", str(12 * 3600))
        assert morsel.value not in answer.text
        assert answer.headers["Cache-Control"] == "no-store"
        assert (await http.get("/v1/account")).json()["account"] == BUYER


async def test_who_am_i(http: httpx2.AsyncClient) -> None:
    stranger = (await http.get("/v1/session")).json()
    assert (stranger["account"], stranger["roles"], stranger["net"]) == ("", [], NET)
    by_key = (await http.get("/v1/session", headers={"Authorization": f"Bearer {OPERATOR_KEY}"})).json()
    assert (by_key["roles"], by_key["csrf"]) == (["viewer", "operator"], "")
    csrf = (await signed_in(http))[CSRF_HEADER]
    mine = (await http.get("/v1/session")).json()
    assert (mine["account"], mine["roles"], mine["scopes"]) == (BUYER, ["buyer"], ["buy"])
    assert (mine["csrf"], mine["key_id"]) == (csrf, "buyer")
    refused(await http.get("/v1/session", headers={"Authorization": "Bearer wrong"}), 401, "auth.key")


async def test_a_session_may_what_its_key_may(http: httpx2.AsyncClient) -> None:
    headers = await signed_in(http)
    refused(await http.get("/v1/operator/keys"), 403, "scope.missing")
    refused(await http.post("/v1/account/payout", json={}, headers=headers), 403, "scope.missing")
    await signed_in(http, OPERATOR_KEY)
    assert (await http.get("/v1/operator/keys")).status_code == 200
    refused(await http.get("/v1/account"), 403, "scope.missing")


async def test_a_viewer_sees_all_that_operators_see_and_changes_nothing(
    network: FakeNetwork, http: httpx2.AsyncClient
) -> None:
    """Every route that operators have, those that are still to come as well."""
    headers = await signed_in(http, VIEWER_KEY)
    mine = (await http.get("/v1/session")).json()
    assert (mine["account"], mine["roles"]) == (VIEWER, ["viewer"])
    routes = {
        (method, re.sub(r"\{account_id[^}]*\}", VIEWER, route.path))
        for route in network.app.routes
        if isinstance(route, HTTPRoute) and route.path.startswith("/v1/operator/")
        for handler in route.route_handlers
        for method in handler.http_methods
        if method != "OPTIONS"
    }
    looks = {path for method, path in routes if method == "GET"}
    changes = routes - {("GET", path) for path in looks} - {("POST", "/v1/operator/what-if")}
    assert min(len(looks), len(changes)) > 9
    for path in looks:
        assert (await http.get(path)).status_code in (200, 404, 503), path  # what is not served here is let through
    for method, path in changes:
        refused(await http.request(method, path, json={}, headers=headers), 403, "scope.missing")
    assert (await http.post("/v1/operator/what-if", json={}, headers=headers)).json()["code"] == "epoch.not_closed"
    for path in ("/v1/account", "/v1/jobs", "/v1/account/nodes"):
        refused(await http.get(path), 403, "scope.missing")
    refused(await http.post("/v1/account/api-keys", json={"scopes": ["view"]}, headers=headers), 403, "scope.missing")


async def test_signing_out_ends_the_session_and_takes_the_cookie_back(
    network: FakeNetwork, http: httpx2.AsyncClient
) -> None:
    headers = await signed_in(http)
    (stolen,) = (f"{name}={secret}" for name, secret in http.cookies.items())
    refused(await http.delete("/v1/session"), 403, "csrf.token")
    gone = await http.delete("/v1/session", headers=headers)
    assert (gone.status_code, gone.json()["account"]) == (200, "")
    assert not http.cookies
    assert not network.sessions
    refused(await http.get("/v1/account", headers={"Cookie": stolen}), 401, "auth.session")
    assert (await http.delete("/v1/session")).status_code == 200


async def test_a_session_that_ended_elsewhere_ends_here_in_three_seconds(
    network: FakeNetwork, http: httpx2.AsyncClient
) -> None:
    await signed_in(http)
    for _ in range(3):
        assert (await http.get("/v1/account")).status_code == 200
    assert network.session_checks == 1
    del network.keys[BUYER_KEY]
    network.clock.advance(3000)
    refused(await http.get("/v1/account"), 401, "auth.session")
    assert (await http.get("/v1/nodes")).status_code == 200  # the explorer is for everybody
    assert (await http.get("/v1/session")).json()["account"] == ""


async def test_what_changes_something_needs_the_sessions_token(http: httpx2.AsyncClient) -> None:
    headers = await signed_in(http)
    other = await signed_in(http, OTHER_KEY)
    path = "/v1/account/api-keys"
    for wrong in ({}, {CSRF_HEADER: ""}, {CSRF_HEADER: "0" * 64}, headers, {CSRF_HEADER: "\u00e4"}):
        encoded = [(name.encode(), value.encode("latin-1")) for name, value in wrong.items()]
        refused(await http.post(path, json={}, headers=encoded), 403, "csrf.token")
    assert (await http.post(path, json={}, headers=other)).status_code == 201


async def test_every_route_that_changes_something_for_a_session_wants_its_token(
    network: FakeNetwork, http: httpx2.AsyncClient
) -> None:
    headers = await signed_in(http)
    paths = (await http.get("/schema/openapi.json")).json()["paths"]
    changing = {(method, path) for path, ways in paths.items() for method in ways if method not in {"get", "head"}}
    assert ("post", "/v1/verticals/{vertical}/{call}") in changing
    for method, path in changing - OPEN:
        network.clock.advance(1000)  # who is refused so often is slowed down
        url = re.sub(r"{(epoch|index)}", "0", re.sub(r"{(?!epoch|index)\w+}", "a" * 32, path))
        refused(await http.request(method, url), 403, "csrf.token")
        told = headers | {"Sec-Fetch-Site": "same-site"}
        refused(await http.request(method, url, headers=told), 403, "csrf.origin")


@pytest.mark.parametrize(
    "told",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1"},
    ],
)
async def test_pages_of_others_get_nowhere_even_with_the_token(http: httpx2.AsyncClient, told: dict[str, str]) -> None:
    headers = await signed_in(http)
    refused(await http.post("/v1/account/api-keys", json={}, headers=headers | told), 403, "csrf.origin")
    refused(await http.get("/v1/account", headers=told), 403, "csrf.origin")
    refused(await http.post("/v1/session", json={"key": OTHER_KEY}, headers=told), 403, "csrf.origin")
    refused(await http.delete("/v1/session", headers=headers | told), 403, "csrf.origin")


async def test_an_older_browser_is_judged_by_its_origin(http: httpx2.AsyncClient) -> None:
    headers = await signed_in(http)
    del http.headers["Sec-Fetch-Site"]
    path = "/v1/account/api-keys"
    for origin in ("http://evil.example", "null", "https://127.0.0.1", "http://127.0.0.1:81", ""):
        refused(await http.post(path, json={}, headers=headers | {"Origin": origin}), 403, "csrf.origin")
    refused(await http.post(path, json={}, headers=headers), 403, "csrf.token")  # no browser says nothing at all
    assert (await http.post(path, json={}, headers=headers | {"Origin": "http://127.0.0.1"})).status_code == 201


async def test_a_key_counts_as_before_whatever_the_cookie_says(http: httpx2.AsyncClient) -> None:
    await signed_in(http, OTHER_KEY)
    headers = {"Authorization": f"Bearer {BUYER_KEY}", "Sec-Fetch-Site": "cross-site"}
    assert (await http.post("/v1/account/api-keys", json={}, headers=headers)).json()["account"] == BUYER


async def test_a_browser_keeps_blobs_for_whoever_had_them(http: httpx2.AsyncClient) -> None:
    headers = await signed_in(http)
    name = hashlib.sha256(b"mine").hexdigest()
    refused(await http.put(f"/v1/blobs/{name}", content=b"mine"), 403, "csrf.token")
    assert (await http.put(f"/v1/blobs/{name}", content=b"mine", headers=headers)).status_code == 200
    mine = await http.get(f"/v1/blobs/{name}")
    assert (mine.content, mine.headers["Vary"]) == (b"mine", "Authorization, Cookie")
    await signed_in(http, OTHER_KEY)
    refused(await http.get(f"/v1/blobs/{name}"), 404, "blob.missing")


async def test_the_cookie_of_plain_http_is_none_under_tls(network: FakeNetwork) -> None:
    async with browser(network) as plain:
        await signed_in(plain)
        (secret,) = plain.cookies.values()
    async with browser(network, "https") as http:
        refused(await http.get("/v1/account", headers={"Cookie": f"fallow-{NET}={secret}"}), 401, "auth.missing")
        found = await http.get("/v1/account", headers={"Cookie": f"__Host-fallow-{NET}={secret}"})
        assert found.status_code == 200
        for nonsense in ("fs_x", "x" * 5000):
            answer = await http.get("/v1/account", headers={"Cookie": f"__Host-fallow-{NET}={nonsense}"})
            assert answer.status_code == 401


async def test_of_a_named_proxy_that_ended_tls_a_session_is_for_tls_alone(network: FakeNetwork) -> None:
    async with serving(network.app, "127.0.0.1", 0, proxies=read_proxies("127.0.0.1")) as port:
        for scheme, name, secure in (("https", f"__Host-fallow-{NET}", True), ("http", f"fallow-{NET}", False)):
            told = {"X-Forwarded-Proto": scheme, "Origin": f"{scheme}://127.0.0.1:{port}"}
            async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=told) as http:
                answer = await http.post("/v1/session", json={"key": BUYER_KEY})
            (morsel,) = SimpleCookie(answer.headers["Set-Cookie"]).values()
            assert (morsel.key, bool(morsel["secure"])) == (name, secure)


async def test_who_tries_keys_out_is_slowed_down() -> None:
    async with fake_network(Limits(sign_ins=Rate(0.1, 3))) as network, browser(network) as http:
        for _ in range(3):
            refused(await http.post("/v1/session", json={"key": "fk_guess"}), 401, "auth.key")
        slow = await http.post("/v1/session", json={"key": BUYER_KEY})
        refused(slow, 429, "rate.requests")
        assert slow.headers["Retry-After"] == "10"
        network.clock.advance(10_000)
        assert (await http.post("/v1/session", json={"key": BUYER_KEY})).status_code == 201


@pytest.mark.parametrize("body", [{}, {"key": ""}, {"key": "k" * 201}, {"key": 1}, {"key": "k", "more": 1}])
async def test_a_malformed_sign_in_is_told_so_and_the_key_in_it_not(
    http: httpx2.AsyncClient, body: dict[str, object]
) -> None:
    error = refused(await http.post("/v1/session", json=body), 400, "http.invalid")
    assert "kkk" not in error.message


async def test_keys_are_made_with_no_more_than_one_has_and_ended(
    network: FakeNetwork, http: httpx2.AsyncClient
) -> None:
    headers = await signed_in(http)
    path = "/v1/account/api-keys"
    assert (await http.post(path, json={"label": "laptop"}, headers=headers)).json()["account"] == BUYER
    for beyond in (["operate"], ["buy", "withdraw"], ["everything"]):
        refused(await http.post(path, json={"scopes": beyond}, headers=headers), 403, "scope.missing")
    refused(await http.post(path, json={"scopes": []}, headers=headers), 400, "http.invalid")
    assert [key["label"] for key in (await http.get(path)).json() if key["key_id"] != "buyer"] == ["laptop"]
    refused(await http.delete(f"{path}/other", headers=headers), 404, "auth.no_such_key")
    assert (await http.delete(f"{path}/buyer", headers=headers)).status_code == 204
    refused(await http.get(path), 401, "auth.session")  # the session that it opened has ended with it, here at once
    assert OTHER_KEY in network.keys
    assert network.logged == []


async def test_what_an_operator_does_with_his_own_keys_is_in_the_log(
    network: FakeNetwork, http: httpx2.AsyncClient
) -> None:
    """A further key that operates could else be made without a line, and used when the first one is revoked."""
    network.keys[OPERATOR_KEY] = msgspec.structs.replace(network.keys[OPERATOR_KEY], scopes=["buy", "operate"])
    headers = await signed_in(http, OPERATOR_KEY)
    path, who = "/v1/account/api-keys", Person(account=OPERATOR, key_id="operator")
    assert (await http.post(path, json={"scopes": ["operate"]}, headers=headers)).status_code == 201
    (made,) = [key["key_id"] for key in (await http.get(path)).json() if key["key_id"] != "operator"]
    assert (await http.delete(f"{path}/{made}", headers=headers)).status_code == 204
    assert network.logged == [("key.make", who), ("key.revoke", who)]


async def by_wallet(http: httpx2.AsyncClient, **changed: str) -> httpx2.Response:
    """Sign in with a wallet; `changed` is what is sent instead."""
    asked = await http.post("/v1/session/challenge", json={"account": WALLET_ACCOUNT})
    assert asked.status_code == 200, asked.text
    signature = "0x" + sign_text(WALLET, asked.json()["text"]).hex()
    signed = {"account": WALLET_ACCOUNT, "nonce": asked.json()["nonce"], "signature": signature} | changed
    return await http.post("/v1/session/wallet", json=signed)


async def test_a_wallet_signs_its_holder_in(network: FakeNetwork, http: httpx2.AsyncClient) -> None:
    answer = await by_wallet(http)
    assert answer.status_code == 201, answer.text
    mine = (await http.get("/v1/session")).json()
    assert (mine["account"], mine["key_id"], mine["roles"]) == (WALLET_ACCOUNT, "", ["buyer", "provider"])
    headers = {CSRF_HEADER: mine["csrf"]}
    made = await http.post("/v1/account/api-keys", json={"scopes": ["buy"]}, headers=headers)
    assert made.json()["account"] == WALLET_ACCOUNT
    refused(
        await http.post("/v1/account/api-keys", json={"scopes": ["operate"]}, headers=headers), 403, "scope.missing"
    )
    await http.delete("/v1/session", headers=headers)
    assert (await http.get("/v1/session")).json()["account"] == ""
    assert not network.sessions


async def test_a_text_names_the_host_that_was_asked(http: httpx2.AsyncClient) -> None:
    asked = await http.post("/v1/session/challenge", json={"account": WALLET_ACCOUNT})
    assert asked.json()["text"].startswith("127.0.0.1 wants you to sign in with your Ethereum account:\n0x")
    assert "\nURI: http://127.0.0.1\n" in asked.json()["text"]
    signature = "0x" + sign_text(WALLET, asked.json()["text"]).hex()
    signed = {"account": WALLET_ACCOUNT, "nonce": asked.json()["nonce"], "signature": signature}
    elsewhere = await http.post("/v1/session/wallet", json=signed, headers={"Host": "net.example"})
    refused(elsewhere, 401, "auth.wallet")
    hostile = {"Host": "a b\tc"}
    refused(
        await http.post("/v1/session/challenge", json={"account": WALLET_ACCOUNT}, headers=hostile), 400, "http.invalid"
    )


async def test_what_a_wallet_signed_for_another_page_is_good_for_nothing_here(
    network: FakeNetwork, http: httpx2.AsyncClient
) -> None:
    asked = await http.post("/v1/session/challenge", json={"account": WALLET_ACCOUNT})
    phished = asked.json()["text"].replace("127.0.0.1", "phish.example")  # the wallet sees no difference to the page
    signature = "0x" + sign_text(WALLET, phished).hex()
    signed = {"account": WALLET_ACCOUNT, "nonce": asked.json()["nonce"], "signature": signature}
    theirs = {"Host": "phish.example"}
    refused(await http.post("/v1/session/wallet", json=signed, headers=theirs), 403, "session.host")
    refused(
        await http.post("/v1/session/challenge", json={"account": WALLET_ACCOUNT}, headers=theirs), 403, "session.host"
    )
    assert not network.sessions


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("net.example", True),
        ("NET.example:8420", True),
        ("a.wild.example", True),
        ("wild.example", False),
        ("a.b.wild.example", False),
        ("phish.example@net.example", False),
        ("net.example:phish.example", False),
        ("net.example:", False),
        ("*.wild.example", False),
        ("", False),
    ],
)
async def test_a_wallet_signs_names_of_the_network_alone(http: httpx2.AsyncClient, host: str, own: bool) -> None:
    asked = await http.post("/v1/session/challenge", json={"account": WALLET_ACCOUNT}, headers={"Host": host})
    if own:
        assert asked.json()["text"].startswith(f"{host} wants you")
    else:
        assert asked.status_code in {400, 403}, asked.text


@pytest.mark.parametrize(
    ("changed", "status", "code"),
    [
        ({"account": "0x" + "ab" * 20}, 401, "auth.challenge"),
        ({"nonce": "0" * 32}, 401, "auth.challenge"),
        ({"signature": "0x" + sign_text(WALLET, "another text").hex()}, 401, "auth.wallet"),
        ({"signature": "0x" + "00" * 65}, 400, "account.signature"),
        ({"signature": "0x"}, 400, "http.invalid"),
        ({"nonce": "0" * 32 + "\n"}, 400, "http.invalid"),
        ({"account": WALLET_ACCOUNT.upper()}, 400, "http.invalid"),
    ],
)
async def test_what_no_wallet_signed_opens_nothing(
    network: FakeNetwork, http: httpx2.AsyncClient, changed: dict[str, str], status: int, code: str
) -> None:
    refused(await by_wallet(http, **changed), status, code)
    assert not network.sessions


async def test_who_asks_for_texts_without_end_is_slowed_down() -> None:
    async with fake_network(Limits(sign_ins=Rate(0.001, 2))) as network, browser(network) as http:
        for _ in range(2):
            assert (await http.post("/v1/session/challenge", json={"account": WALLET_ACCOUNT})).status_code == 200
        refused(await http.post("/v1/session/challenge", json={"account": WALLET_ACCOUNT}), 429, "rate.requests")
