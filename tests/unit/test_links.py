"""Requests that are signed in their addresses for whoever has signed in, and what else a browser is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from fallow.domain import calls
from fallow.domain.errors import NotFound
from fallow.http.links import CHANGING_S_MAX, LINKS_MAX, WALLETS_LABEL
from fallow.http.sessions import CSRF_HEADER
from fallow.sdk.client import AsyncClient
from fallow.verticals.storage.gateway.auth.caller import Caller, find_caller
from fallow.verticals.storage.gateway.errors import S3Error
from fallow.verticals.storage.gateway.request import Request
from fallow.verticals.storage.gateway.users import Owner, User
from tests.unit.fake_network import BUYER, BUYER_KEY, OPERATOR_KEY, FakeNetwork, fake_network
from tests.unit.test_s3_app import never
from tests.unit.test_sign_in import WALLET_ACCOUNT, browser, by_wallet

BUYER_KEY_ID = "buyer"
S3_URL = "https://198.51.100.7:8430"
PATH = "/photos/Å plus+ & \u202ereversed/%2F.png"


class Users:
    """Knows the buyer's key alone."""

    async def user(self, access_key: str) -> User | None:
        """See the port."""
        return User(access_key, f"secret of {access_key}", BUYER, BUYER) if access_key == "buyer" else None

    async def owner(self, account: str) -> Owner | None:
        """See the port."""
        return Owner(account, account)


@pytest.fixture
async def network() -> AsyncIterator[FakeNetwork]:
    async with fake_network(gateways={"s3": S3_URL}) as made:
        yield made


def client(network: FakeNetwork, **headers: str) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(network.app)  # type: ignore[arg-type]
    return httpx2.AsyncClient(transport=transport, base_url="http://console.example:8420", headers=headers)


def keyed(network: FakeNetwork, key: str = BUYER_KEY) -> httpx2.AsyncClient:
    return client(network, Authorization=f"Bearer {key}")


async def links(asking: httpx2.AsyncClient, **changed: Any) -> httpx2.Response:
    async with asking:
        return await asking.post("/v1/account/links", json={"role": "s3", "requests": [{"path": PATH}]} | changed)


@pytest.mark.parametrize(("role", "code"), [("s3", ""), ("ftp", "link.no_gateway")])
async def test_programs_have_addresses_signed_for_others_by_the_gateways_own_host(
    network: FakeNetwork, role: str, code: str
) -> None:
    transport = httpx2.ASGITransport(network.app)  # type: ignore[arg-type]
    async with AsyncClient("http://127.0.0.1:8420", BUYER_KEY, transport=transport) as program:
        if code:
            with pytest.raises(NotFound) as refused:
                await program.link(role, PATH, 60)
            assert refused.value.code == code
            return
        made = await program.link(role, PATH, calls.keys.LINK_S_MAX)
    assert made.urls[0].startswith(S3_URL)
    assert made.ends_at == (network.clock.now_ms() // 1000 + calls.keys.LINK_S_MAX) * 1000
    assert (await caller_of(network, made.urls[0])).account == BUYER


async def caller_of(network: FakeNetwork, url: str, method: str = "GET", host: str = "") -> Caller:
    """Whom the gateway takes a request to a signed address for."""
    parts = urlsplit(url)
    scope = {
        "method": method,
        "path": parts.path,
        "raw_path": parts.path.encode(),
        "query_string": parts.query.encode(),
        "headers": [(b"host", (host or parts.netloc).encode())],
    }
    request = Request(scope, never, network.clock)
    request.split()
    return await find_caller(request, Users(), network.clock.now_ms())


async def test_the_gateway_takes_who_has_the_address_for_who_had_it_signed(network: FakeNetwork) -> None:
    answer = await links(keyed(network), valid_s=60)
    assert answer.status_code == 200
    (url,) = answer.json()["urls"]
    assert url.startswith("https://console.example:8430/photos/%C3%85%20plus%2B%20%26%20%E2%80%AE")
    assert (await caller_of(network, url)).account == BUYER
    assert answer.json()["ends_at"] == network.clock.now_ms() + 60_000
    network.clock.advance(61_000)
    with pytest.raises(S3Error, match="expired"):
        await caller_of(network, url)


@pytest.mark.parametrize("part", ["method", "path", "query", "host", "time"])
async def test_an_address_is_good_for_nothing_else(network: FakeNetwork, part: str) -> None:
    (url,) = (await links(keyed(network), valid_s=60)).json()["urls"]
    changed = {
        "path": url.replace("/photos/", "/letters/"),
        "query": url + "&versionId=1",
        "time": url.replace("X-Amz-Expires=60", "X-Amz-Expires=600"),
    }.get(part, url)
    method, host = ("DELETE" if part == "method" else "GET"), ("elsewhere:8430" if part == "host" else "")
    with pytest.raises(S3Error) as caught:
        await caller_of(network, changed, method, host)
    assert caught.value.code == "SignatureDoesNotMatch"


async def test_a_wallets_session_signs_by_a_key_that_nobody_was_told_and_its_holder_can_revoke(
    network: FakeNetwork,
) -> None:
    asked = {"role": "s3", "requests": [{"path": PATH}]}
    async with browser(network) as http:
        csrf = {CSRF_HEADER: (await by_wallet(http)).json()["csrf"]}
        answers = [await http.post("/v1/account/links", json=asked, headers=csrf) for _ in range(2)]
        (key,) = (await http.get("/v1/account/api-keys")).json()
        assert (key["label"], key["account"], key["scopes"]) == (WALLETS_LABEL, WALLET_ACCOUNT, ["buy"])
        for answer in answers:
            assert f"X-Amz-Credential={key['key_id']}" in answer.json()["urls"][0]
            assert not [text for text in network.keys if text in answer.text]
        assert (await http.get("/v1/account/signing-secret")).json()["code"] == "session.secret"
        await http.delete(f"/v1/account/api-keys/{key['key_id']}", headers=csrf)
        network.keys["fk_more"] = calls.keys.KeyInfo(key_id="zz", account=WALLET_ACCOUNT, scopes=["buy", "withdraw"])
        network.labels["zz"] = WALLETS_LABEL
        (url,) = (await http.post("/v1/account/links", json=asked, headers=csrf)).json()["urls"]
        assert key["key_id"] not in url
        assert "X-Amz-Credential=zz" not in url, "what it signs with may buy, and no more"


async def test_who_asks_several_times_at_once_has_one_key_made(network: FakeNetwork) -> None:
    asked = {"role": "s3", "requests": [{"path": PATH}]}
    async with browser(network) as http:
        csrf = {CSRF_HEADER: (await by_wallet(http)).json()["csrf"]}
        asking = [http.post("/v1/account/links", json=asked, headers=csrf) for _ in range(20)]
        assert {answer.status_code for answer in await asyncio.gather(*asking)} == {200}
        (key,) = (await http.get("/v1/account/api-keys")).json()
        assert key["label"] == WALLETS_LABEL


async def test_what_others_are_given_is_at_the_address_that_others_know(network: FakeNetwork) -> None:
    (url,) = (await links(keyed(network), valid_s=calls.keys.LINK_S_MAX, shared=True)).json()["urls"]
    assert url.startswith(f"{S3_URL}/photos/")
    assert (await caller_of(network, url)).account == BUYER


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"requests": [{"path": PATH, "method": "DELETE"}], "valid_s": CHANGING_S_MAX + 1}, "link.long"),
        ({"valid_s": calls.keys.LINK_S_MAX + 1}, "http.invalid"),
        ({"requests": [{"path": "photos"}]}, "http.invalid"),
        ({"requests": [{"path": PATH, "method": "PATCH"}]}, "http.invalid"),
        ({"requests": [{"path": PATH}] * (LINKS_MAX + 1)}, "http.invalid"),
        ({"requests": []}, "http.invalid"),
        ({"role": "ftp"}, "link.no_gateway"),
    ],
)
async def test_what_nobody_should_sign_is_refused(network: FakeNetwork, changed: dict[str, Any], code: str) -> None:
    answer = await links(keyed(network), **changed)
    assert answer.json()["code"] == code


async def test_who_may_not_buy_has_nothing_signed(network: FakeNetwork) -> None:
    assert (await links(keyed(network, OPERATOR_KEY))).json()["code"] == "scope.missing"
    assert (await links(client(network))).json()["code"] == "auth.missing"
    assert (await links(keyed(network, "fk_unknown"))).json()["code"] == "auth.key"


async def test_a_browser_has_requests_signed_and_is_never_told_what_signs(network: FakeNetwork) -> None:
    async with client(network, **{"Sec-Fetch-Site": "same-origin"}) as browser:
        csrf = (await browser.post("/v1/session", json={"key": BUYER_KEY})).json()["csrf"]
        body = {"role": "s3", "requests": [{"path": PATH}]}
        refused = await browser.post("/v1/account/links", json=body)
        assert refused.json()["code"] == "csrf.token"
        answer = await browser.post("/v1/account/links", json=body, headers={"Fallow-CSRF": csrf})
        assert (await caller_of(network, answer.json()["urls"][0])).account == BUYER
        secret = await browser.get("/v1/account/signing-secret")
        assert (secret.status_code, secret.json()["code"]) == (403, "session.secret")
    async with keyed(network) as program:
        assert (await program.get("/v1/account/signing-secret")).json()["secret"] == f"secret of {BUYER_KEY_ID}"


async def test_pages_may_ask_the_gateways_at_the_host_that_they_are_at(network: FakeNetwork) -> None:
    async with client(network) as browser:
        policy = (await browser.get("/storage/photos?in=a")).headers["Content-Security-Policy"]
    assert "connect-src 'self' https://console.example:8430;" in policy


async def test_a_call_of_a_vertical_may_be_json(network: FakeNetwork) -> None:
    async with keyed(network) as program:
        wrong = await program.post("/v1/verticals/storage/usage", json={"account": "", "from_day": "x", "to_day": 1})
        assert wrong.json()["code"] == "vertical.malformed"
