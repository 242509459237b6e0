"""The control API, in this process, over a bus in memory."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import msgspec
import pytest
from litestar.routes import HTTPRoute
from nacl.signing import SigningKey

from fallow.domain import calls
from fallow.domain.commands import Kind, encode_data
from fallow.domain.delegations import Receipt
from fallow.domain.errors import Conflict, NotFound
from fallow.domain.orders import Order
from fallow.domain.prices import Delivered, cost_microusd
from fallow.domain.streams import Opening
from fallow.domain.views.base import ErrorView
from fallow.http import jobs
from fallow.http.json_rpc import RATE, create_rpc_app
from fallow.http.limits import Limits
from fallow.ports.mishaps import MISHAPS
from fallow.ports.rates import Rate
from fallow.ports.remembered import MOMENT_MS
from fallow.ports.rpc import serve
from fallow.ports.streams import Stream
from fallow.sdk.bills import offers
from fallow.sdk.signing import BuyerKey
from tests.memory_streams import MemoryStream, stream_pair
from tests.network import until
from tests.unit import fake_network
from tests.unit.canned_client import CannedClient
from tests.unit.fake_network import BUYER, BUYER_KEY, OPERATOR, OPERATOR_KEY, OTHER_KEY, PROVIDER_KEY, FakeNetwork

NODE = SigningKey(b"1" * 32)
STRANGER = SigningKey(b"2" * 32)
JOB = "0" * 32
LS = {"command": ["ls"]}


@pytest.fixture
async def network() -> AsyncIterator[FakeNetwork]:
    async with fake_network.fake_network() as network:
        yield network


@pytest.fixture
async def http(network: FakeNetwork) -> AsyncIterator[httpx2.AsyncClient]:
    async with browser(network) as client:
        yield client


def browser(network: FakeNetwork, host: str = "127.0.0.1") -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app=network.app, raise_app_exceptions=False, client=(host, 1))  # type: ignore[arg-type]
    return httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1")


def key(secret: str = BUYER_KEY) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def refused(response: httpx2.Response, status: int, code: str) -> ErrorView:
    assert (response.status_code, response.json().get("code")) == (status, code), response.text
    assert response.headers["content-type"] == "application/json"
    return msgspec.json.decode(response.content, type=ErrorView)


async def upload(http: httpx2.AsyncClient, data: bytes, secret: str = BUYER_KEY) -> str:
    response = await http.put(f"/v1/blobs/{sha(data)}", content=data, headers=key(secret))
    assert (response.status_code, response.json()) == (200, {"sha256": sha(data), "size": len(data)})
    return sha(data)


async def order(http: httpx2.AsyncClient, **changes: Any) -> dict[str, Any]:
    program = await upload(http, b"program")
    built = msgspec.to_builtins(Order(id=JOB, vertical="compute", work={"kind": "wasm", "program": program}))
    return dict(built) | changes


async def submitted(http: httpx2.AsyncClient) -> None:
    assert (await http.post("/v1/jobs", json=await order(http), headers=key())).status_code == 201


# who may do what


async def test_the_public_part_needs_no_key(http: httpx2.AsyncClient) -> None:
    assert (await http.get("/healthz")).json() == {"status": "ok"}
    assert (await http.get("/v1/network")).json()["net"] == "lab-1"
    assert (await http.get("/v1/nodes")).json() == []
    joining = {"token": "t", "node": "0" * 64, "proof": "0" * 128}
    response = await http.post("/v1/join", json=joining)
    assert (response.status_code, response.json()["net"]) == (201, "lab-1")


BUYERS_ROUTES = [
    ("GET", "/v1/account"),
    ("GET", "/v1/account/statement"),
    ("GET", "/v1/account/budget"),
    ("GET", "/v1/subscriptions"),
    ("DELETE", f"/v1/subscriptions/{JOB}"),
    ("POST", "/v1/quotes"),
    ("POST", "/v1/jobs"),
    ("GET", "/v1/jobs"),
    ("GET", f"/v1/jobs/{JOB}"),
    ("GET", f"/v1/jobs/{JOB}/items"),
    ("GET", f"/v1/jobs/{JOB}/leases"),
    ("GET", f"/v1/jobs/{JOB}/events"),
    ("GET", f"/v1/jobs/{JOB}/order"),
    ("GET", f"/v1/jobs/{JOB}/elsewhere"),
    ("GET", f"/v1/jobs/{JOB}/items/0/logs"),
    ("POST", f"/v1/jobs/{JOB}/items/0/streams"),
    ("POST", f"/v1/jobs/{JOB}/items/0/exec"),
    ("GET", "/v1/account/keys"),
    ("POST", "/v1/account/keys"),
    ("DELETE", f"/v1/account/keys/{'a' * 64}"),
    ("GET", "/v1/account/api-keys"),
    ("POST", "/v1/account/api-keys"),
    ("DELETE", "/v1/account/api-keys/buyer"),
    ("POST", f"/v1/jobs/{JOB}/receipts"),
    ("GET", f"/v1/jobs/{JOB}/evidence"),
    ("POST", f"/v1/jobs/{JOB}/cancel"),
    ("PUT", f"/v1/blobs/{'0' * 64}"),
    ("GET", f"/v1/blobs/{'0' * 64}"),
]
OPERATORS_ROUTES = [
    ("POST", "/v1/operator/tokens"),
    ("GET", "/v1/operator/reruns"),
    ("POST", "/v1/operator/keys"),
    ("DELETE", "/v1/operator/keys/buyer"),
    ("POST", "/v1/operator/credits"),
    ("GET", "/v1/operator/ledger-check"),
    ("GET", "/v1/operator/reserve"),
    ("POST", "/v1/operator/actions"),
    ("GET", "/v1/operator/actions"),
    ("GET", "/v1/operator/nodes"),
    ("GET", f"/v1/operator/accounts/{BUYER}/balance"),
]


@pytest.mark.parametrize(("method", "path"), BUYERS_ROUTES + OPERATORS_ROUTES)
async def test_no_key_or_a_wrong_one_gets_nowhere(http: httpx2.AsyncClient, method: str, path: str) -> None:
    missing = await http.request(method, path)
    refused(missing, 401, "auth.missing")
    assert missing.headers["www-authenticate"] == "Bearer"
    for forged in (f"Bearer {BUYER_KEY}x", f"Basic {BUYER_KEY}", "Bearer ", "Bearer " + "k" * 5000, "Bearer \u00e4"):
        headers = [(b"Authorization", forged.encode("latin-1"))]
        refused(await http.request(method, path, headers=headers), 401, "auth.key")


@pytest.mark.parametrize(("method", "path"), OPERATORS_ROUTES)
async def test_a_buyer_does_not_operate(http: httpx2.AsyncClient, method: str, path: str) -> None:
    refused(await http.request(method, path, headers=key()), 403, "scope.missing")


@pytest.mark.parametrize("path", ["/v1/account/withdrawals", "/v1/account/payout"])
async def test_a_key_that_buys_or_operates_does_not_say_where_money_goes(http: httpx2.AsyncClient, path: str) -> None:
    for secret in (BUYER_KEY, OPERATOR_KEY):
        refused(await http.post(path, headers=key(secret)), 403, "scope.missing")
    refused(await http.post(path), 401, "auth.missing")


async def test_a_key_that_buys_does_not_say_how_much_may_be_spent(http: httpx2.AsyncClient) -> None:
    """It is what the budget bounds. Whose key may set it sets that of its own account."""
    wanted = {"budget_microusd": 50_000_000}
    refused(await http.put("/v1/account/budget", headers=key(), json=wanted), 403, "scope.missing")
    said = await http.put("/v1/account/budget", headers=key(PROVIDER_KEY), json=wanted)
    assert (said.status_code, said.json()["budget_microusd"]) == (200, 50_000_000)
    shown = (await http.get("/v1/account/budget", headers=key(PROVIDER_KEY))).json()
    assert shown == {
        "month": "1970-01",
        "ends_at": 31 * 86_400_000,
        "budget_microusd": 50_000_000,
        "spent_microusd": 0,
        "reserved_microusd": 0,
        "reached": False,
    }
    assert (await http.get("/v1/account/budget", headers=key())).json()["budget_microusd"] is None
    ended = await http.put("/v1/account/budget", headers=key(PROVIDER_KEY), json={"budget_microusd": None})
    assert ended.json()["budget_microusd"] is None
    refused(await http.put("/v1/account/budget", headers=key(PROVIDER_KEY), json={}), 400, "http.invalid")


@pytest.mark.parametrize(("method", "path"), BUYERS_ROUTES)
async def test_an_operator_does_not_buy(http: httpx2.AsyncClient, method: str, path: str) -> None:
    refused(await http.request(method, path, headers=key(OPERATOR_KEY)), 403, "scope.missing")


async def test_keys_are_remembered_for_a_moment_only(network: FakeNetwork, http: httpx2.AsyncClient) -> None:
    for _ in range(3):
        await http.get("/v1/account", headers=key())
    assert network.checks == 1
    del network.keys[BUYER_KEY]
    network.clock.advance(3000)
    refused(await http.get("/v1/account", headers=key()), 401, "auth.key")


async def test_a_key_revoked_here_ends_at_once(http: httpx2.AsyncClient) -> None:
    assert (await http.get("/v1/account", headers=key())).status_code == 200
    assert (await http.delete("/v1/operator/keys/buyer", headers=key(OPERATOR_KEY))).status_code == 204
    refused(await http.get("/v1/account", headers=key()), 401, "auth.key")


async def test_the_operator_operates(http: httpx2.AsyncClient) -> None:
    headers = key(OPERATOR_KEY)
    made = await http.post("/v1/operator/tokens", json={"uses": 2}, headers=headers)
    assert (made.status_code, made.json()["secret"]) == (201, "token")
    made = await http.post("/v1/operator/keys", json={"account": BUYER}, headers=headers)
    assert (made.status_code, made.json()["account"]) == (201, BUYER)
    assert made.json()["secret"].startswith("fk_")
    credits_ = {"id": JOB, "account": BUYER, "amount_microusd": 7}
    granted = await http.post("/v1/operator/credits", json=credits_, headers=headers)
    assert granted.json()["spendable"] == {"granted": 7}
    assert (await http.get("/v1/operator/ledger-check", headers=headers)).json()["ok"] is True
    reserve = (await http.get("/v1/operator/reserve", headers=headers)).json()
    assert (reserve["purse"]["balance"], reserve["uses"][0]["made_good_microusd"]) == ({"granted": 30}, 12)
    balance = await http.get(f"/v1/operator/accounts/{BUYER}/balance", headers=headers)
    assert balance.json()["account"] == BUYER
    refused(await http.get("/v1/operator/accounts/nobody/balance", headers=headers), 400, "identity.malformed")


async def test_who_bans_whom_is_told_by_the_key(http: httpx2.AsyncClient) -> None:
    headers = key(OPERATOR_KEY)
    action = {"id": JOB, "what": "ban", "subject": "ab" * 32, "reason": "sent spam"}
    done = await http.post("/v1/operator/actions", json=action, headers=headers)
    assert done.status_code == 201
    assert done.json() == {**action, "at": 1, "account": OPERATOR, "key_id": "operator", "about": ""}
    for change in ({"subject": "AB" * 32}, {"reason": " "}, {"reason": ""}, {"what": "kill"}, {"account": BUYER}):
        refused(await http.post("/v1/operator/actions", json=action | change, headers=headers), 400, "http.invalid")
    assert (await http.get("/v1/operator/actions?limit=5", headers=headers)).json() == []
    (enrolled,) = (await http.get("/v1/operator/nodes", headers=headers)).json()
    assert enrolled["banned_reason"] == "sent spam"


async def test_a_banned_account_is_told_so(network: FakeNetwork, http: httpx2.AsyncClient) -> None:
    network.banned.add(BUYER)
    refused(await http.get("/v1/account", headers=key()), 403, "account.banned")
    assert (await http.get("/v1/account", headers=key(OTHER_KEY))).status_code == 200


# jobs


async def test_a_job_from_quote_to_cancel(http: httpx2.AsyncClient) -> None:
    body = await order(http)
    quoted = await http.post("/v1/quotes", json=body, headers=key())
    assert (quoted.status_code, quoted.json()["nodes_total"]) == (200, 2)
    elsewhere = body | {"requirements": {"nodes_denied": ["abc"]}}
    for path in ("/v1/quotes", "/v1/jobs"):
        refused(await http.post(path, json=elsewhere, headers=key()), 400, "order.nodes")
    with_secret = await http.post("/v1/quotes", json=body | {"secrets": ["TOKEN"]}, headers=key())
    assert with_secret.status_code == 200
    refused(await http.post("/v1/quotes", json=body | {"secrets": {"TOKEN": "x"}}, headers=key()), 400, "http.invalid")
    first = await http.post("/v1/jobs", json=body, headers=key())
    again = await http.post("/v1/jobs", json=body, headers=key())
    assert (first.status_code, first.json()) == (201, again.json())
    refused(await http.post("/v1/jobs", json=body | {"label": "other"}, headers=key()), 409, "job.conflict")
    assert [job["id"] for job in (await http.get("/v1/jobs", headers=key())).json()] == [JOB]
    assert (await http.get(f"/v1/jobs?after={JOB}&limit=5", headers=key())).json() == []
    assert len((await http.get(f"/v1/jobs/{JOB}/items", headers=key())).json()) == 1
    assert (await http.get(f"/v1/jobs/{JOB}/items?after=0", headers=key())).json() == []
    assert (await http.get(f"/v1/jobs/{JOB}/leases", headers=key())).json() == []
    assert (await http.post(f"/v1/jobs/{JOB}/cancel", headers=key())).json()["state"] == "cancelled"


async def test_jobs_of_others_do_not_exist(http: httpx2.AsyncClient) -> None:
    await submitted(http)
    for path in ("", "/items", "/events", "/order", "/elsewhere"):
        refused(await http.get(f"/v1/jobs/{JOB}{path}", headers=key(OTHER_KEY)), 404, "job.unknown")


async def test_what_a_jobs_work_costs_elsewhere_is_that_of_what_is_done(
    network: FakeNetwork, http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two items one has failed: its time is paid here, and nothing that anybody would buy elsewhere."""
    monkeypatch.setattr(jobs, "PAGE", 1)
    await submitted(http)
    path = f"/v1/jobs/{JOB}/elsewhere"
    assert (await http.get(path, headers=key())).json() == []
    hour = 3_600_000
    network.jobs[JOB] = msgspec.structs.replace(network.jobs[JOB], owed_microusd=20_000)
    network.items[JOB] = [
        msgspec.structs.replace(fake_network.item_view(at, state, "0" * 64), used_ms=hour)
        for at, state in enumerate(["done", "failed"])
    ]
    network.leases[JOB] = [fake_network.lease_view(JOB, at, used_ms=hour) for at in (0, 1)]
    found = {one["name"]: one for one in (await http.get(path, headers=key())).json()}
    offer = next(one for one in offers() if one.sells_cores)
    needs = network.orders[JOB][1].requirements
    delivered = Delivered(needs.cpu_milli * hour, needs.memory_mib * hour)
    assert found[offer.name]["there_microusd"] == cost_microusd(offer, delivered) > 0
    assert found[offer.name]["here_microusd"] == 20_000
    assert {one.name for one in offers() if one.sells(delivered)} == set(found)


@pytest.mark.parametrize("job", ["*", ">", "a.b", "0" * 31, "G" * 32, "0" * 32 + "%0A"])
@pytest.mark.parametrize("path", ["", "/items", "/leases", "/events"])
async def test_a_job_id_cannot_widen_a_subject(http: httpx2.AsyncClient, job: str, path: str) -> None:
    refused(await http.get(f"/v1/jobs/{job}{path}", headers=key()), 400, "http.invalid")


@pytest.mark.parametrize("route", ["/v1/quotes", "/v1/jobs"])
async def test_inputs_must_be_the_buyers_own(http: httpx2.AsyncClient, route: str) -> None:
    foreign = await upload(http, b"foreign", OTHER_KEY)
    for body in (
        await order(http, items=[foreign]),
        await order(http, work={"kind": "wasm", "program": foreign}),
    ):
        error = refused(await http.post(route, json=body, headers=key()), 404, "blob.missing")
        assert foreign in error.message


@pytest.mark.parametrize("route", ["/v1/quotes", "/v1/jobs"])
async def test_orders_that_make_no_sense(http: httpx2.AsyncClient, route: str) -> None:
    for change, code in (
        ({"vertical": "teleport"}, "order.vertical"),
        ({"work": {"kind": "wasm"}}, "compute.work"),
        ({"surprise": 1}, "http.invalid"),
        ({"requirements": {"cpu_milli": 1, "gpu": 1}}, "http.invalid"),
        ({"id": "x"}, "http.invalid"),
        ({"time_limit_s": 0}, "http.invalid"),
    ):
        error = refused(await http.post(route, json=await order(http, **change), headers=key()), 400, code)
        assert error.kind == "InvalidInput"
    refused(await http.post(route, content=b"{", headers=key()), 400, "http.invalid")


# signatures


async def test_an_order_may_be_signed_over_its_exact_bytes(network: FakeNetwork, http: httpx2.AsyncClient) -> None:
    signer = BuyerKey.create(BUYER, "lab-1")
    body = msgspec.json.encode(await order(http)) + b" \n"
    headers = key() | {"Content-Type": "application/json", "Fallow-Key": signer.public}
    signed = headers | {"Fallow-Signature": signer.order(body)}
    assert (await http.post("/v1/jobs", content=body, headers=signed)).status_code == 201
    assert [(each.account, each.order, each.body) for each in network.signed] == [(BUYER, JOB, body)]
    for bad, status, code in (
        (headers, 400, "delegation.malformed"),
        (headers | {"Fallow-Signature": "0"}, 400, "delegation.malformed"),
        (signed | {"Fallow-Signature": signer.order(body[:-1])}, 403, "delegation.signature"),
    ):
        refused(await http.post("/v1/jobs", content=body, headers=bad), status, code)
    assert len(network.signed) == 1


async def test_secrets_are_no_part_of_what_is_signed_and_kept(network: FakeNetwork, http: httpx2.AsyncClient) -> None:
    signer = BuyerKey.create(BUYER, "lab-1")
    body = msgspec.json.encode(await order(http))
    headers = key() | {"Content-Type": "application/json", "Fallow-Key": signer.public}
    headers["Fallow-Signature"] = signer.order(body)
    for whole in (body[:-1] + b',"secrets":{"TOKEN":"hush"}}', b'{"secrets": {"TOKEN": "hush"},' + body[1:]):
        answer = await http.post("/v1/jobs", content=whole, headers=headers)
        assert answer.status_code == 201, answer.text
        assert network.signed.pop().body == body


async def test_receipts_must_agree_with_the_market(network: FakeNetwork, http: httpx2.AsyncClient) -> None:
    await submitted(http)
    network.leases[JOB] = [fake_network.lease_view(JOB, 0), fake_network.lease_view(JOB, 1, ended_at=None)]
    signer = BuyerKey.create(BUYER, "lab-1")
    good = Receipt(item=0, lease=f"{0:032x}", node="ab" * 32, result="0" * 64, used_ms=1500)

    async def send(receipt: Receipt) -> httpx2.Response:
        signature = signer.receipts(JOB, [receipt])
        body = {"key": signer.public, "signature": signature, "receipts": [msgspec.to_builtins(receipt)]}
        return await http.post(f"/v1/jobs/{JOB}/receipts", json=body, headers=key())

    for change, code in (
        ({"used_ms": 1499}, "receipt.differs"),
        ({"node": "cd" * 32}, "receipt.differs"),
        ({"item": 1}, "receipt.differs"),
        ({"lease": "f" * 32}, "receipt.lease"),
        ({"lease": f"{1:032x}", "item": 1}, "receipt.lease"),
    ):
        refused(await send(msgspec.structs.replace(good, **change)), 409, code)
    receipts = [lease["receipt"] for lease in (await http.get(f"/v1/jobs/{JOB}/leases", headers=key())).json()]
    assert receipts == ["operator-attested"] * 2
    assert (await send(good)).status_code == 200
    receipts = [lease["receipt"] for lease in (await http.get(f"/v1/jobs/{JOB}/leases", headers=key())).json()]
    assert receipts == ["mutual", "operator-attested"]


# events


def events_of(response: httpx2.Response) -> list[tuple[str, dict[str, Any]]]:
    blocks = [block.split("\n") for block in response.text.split("\n\n") if block and not block.startswith(":")]
    return [(name.removeprefix("event: "), msgspec.json.decode(data.removeprefix("data: "))) for name, data in blocks]


async def test_events_begin_with_the_job_and_lose_nothing(network: FakeNetwork, http: httpx2.AsyncClient) -> None:
    await submitted(http)
    async with asyncio.TaskGroup() as group:
        stream = group.create_task(http.get(f"/v1/jobs/{JOB}/events", headers=key()))
        await network.job_asked.get()
        network.before_job_answer.append("placed")
        await network.job_asked.get()
        await network.tell(JOB, "running", item=0)
        await network.end_item(JOB, 0, None)
    response = await stream
    assert response.headers["content-type"].startswith("text/event-stream")
    seen = [(name, data["state"]) for name, data in events_of(response)]
    assert seen == [("job", "running"), ("item", "placed"), ("item", "running"), ("item", "done"), ("job", "done")]
    assert "counts" in events_of(response)[0][1]


async def test_events_of_an_ended_job_are_its_end(network: FakeNetwork, http: httpx2.AsyncClient) -> None:
    await submitted(http)
    await network.end_item(JOB, 0, None, "failed")
    response = await http.get(f"/v1/jobs/{JOB}/events", headers=key())
    assert [(name, data["state"]) for name, data in events_of(response)] == [("job", "failed")]


async def test_an_end_that_the_bus_lost_is_found_by_the_heartbeat(
    network: FakeNetwork, http: httpx2.AsyncClient
) -> None:
    await submitted(http)
    async with asyncio.TaskGroup() as group:
        stream = group.create_task(http.get(f"/v1/jobs/{JOB}/events", headers=key()))
        for _ in range(2):
            await network.job_asked.get()
        network.clock.advance(15_000)
        await network.job_asked.get()
        network.jobs[JOB] = msgspec.structs.replace(network.jobs[JOB], state="done")
        while not stream.done():
            network.clock.advance(15_000)
            await asyncio.sleep(0)
    response = await stream
    assert response.text.count(": still here") >= 2
    assert [data["state"] for _, data in events_of(response)] == ["running", "done"]


async def test_events_end_with_the_key_that_asked_for_them(network: FakeNetwork, http: httpx2.AsyncClient) -> None:
    await submitted(http)
    async with asyncio.TaskGroup() as group:
        stream = group.create_task(http.get(f"/v1/jobs/{JOB}/events", headers=key()))
        for _ in range(2):
            await network.job_asked.get()
        del network.keys[BUYER_KEY]
        await minutes_later(network)
        assert stream.done()
    (name, last) = events_of(await stream)[-1]
    assert (name, last["code"], network.jobs[JOB].state) == ("error", "auth.key", "running")


@pytest.mark.parametrize("what", ["logs", "exec"])
async def test_what_is_read_of_an_item_ends_with_the_key_that_asked_for_it(network: FakeNetwork, what: str) -> None:
    """A log breaks off, since an end would say that the program has ended; a command says why it ends."""
    opened: asyncio.Queue[MemoryStream] = asyncio.Queue()

    class Node:
        async def open(self, _: Opening) -> Stream:
            here, there = stream_pair()
            await there.write(encode_data(Kind.OUTPUT, b"so far"))
            opened.put_nowait(there)
            return here

    async def grant(_: calls.streams.StreamRef) -> calls.streams.StreamGrant:
        return calls.streams.StreamGrant(node="00" * 32, lease="11" * 16, ticket=b"")

    network.app.state.gateway._nodes = Node()
    path = f"/v1/jobs/{JOB}/items/0/{what}"
    async with (
        serve(network.bus, calls.streams.STREAM, calls.streams.StreamRef, grant, queue="fake"),
        httpx2.AsyncClient(transport=httpx2.ASGITransport(network.app), base_url="http://x", headers=key()) as http,  # type: ignore[arg-type]
    ):
        asked = http.get(path) if what == "logs" else http.post(path, json=LS)
        answering = asyncio.gather(asked, return_exceptions=True)
        node = await opened.get()
        await minutes_later(network)
        assert not answering.done()
        del network.keys[BUYER_KEY]
        await minutes_later(network)
        assert answering.done()
        with pytest.raises(Conflict, match=r"stream\.closed"):
            await read_all(node)
    (answer,) = await answering
    read = b"broken off" if isinstance(answer, BaseException) else answer.content
    assert {"logs": b"broken off", "exec": b"auth.key"}[what] in read


async def read_all(stream: Stream) -> bytes:
    read = b""
    while piece := await stream.read():
        read += piece
    return read


async def minutes_later(network: FakeNetwork) -> None:
    """Let time pass, and everybody do what is due meanwhile."""
    for _ in range(20):
        network.clock.advance(15_000)
        for _ in range(20):
            await asyncio.sleep(0)


async def test_streams_are_counted_and_given_back() -> None:
    async with fake_network.fake_network(Limits(streams_per_account=1)) as network, browser(network) as http:
        await submitted(http)
        async with asyncio.TaskGroup() as group:
            stream = group.create_task(http.get(f"/v1/jobs/{JOB}/events", headers=key()))
            for _ in range(2):
                await network.job_asked.get()
            refused(await http.get(f"/v1/jobs/{JOB}/events", headers=key()), 429, "rate.streams")
            await network.end_item(JOB, 0, None)
        assert (await stream).status_code == 200
        assert (await http.get(f"/v1/jobs/{JOB}/events", headers=key())).status_code == 200


async def test_streams_count_while_their_node_is_looked_for() -> None:
    looked_for, found = asyncio.Event(), asyncio.Event()

    async def look(_: calls.streams.StreamRef) -> calls.streams.StreamGrant:
        looked_for.set()
        await found.wait()
        raise NotFound("item.not_open", "It has just ended.")

    logs, command = f"/v1/jobs/{JOB}/items/0/logs", f"/v1/jobs/{JOB}/items/0/exec"
    async with (
        fake_network.fake_network(Limits(streams_per_account=1)) as network,
        browser(network) as http,
        serve(network.bus, calls.streams.STREAM, calls.streams.StreamRef, look, queue="fake"),
        asyncio.TaskGroup() as group,
    ):
        first = group.create_task(http.get(logs, headers=key()))
        await looked_for.wait()
        refused(await http.get(logs, headers=key()), 429, "rate.streams")
        refused(await http.post(command, headers=key(), json={"command": ["ls"]}), 429, "rate.streams")
        found.set()
        refused(await first, 404, "item.not_open")
        refused(await http.get(logs, headers=key()), 404, "item.not_open")


async def test_all_addresses_of_one_line_share_its_rate_at_the_chain() -> None:
    def answer(body: bytes, take: Callable[[int], None]) -> bytes:
        take(len(body))
        return b"{}"

    app = create_rpc_app(answer, fake_network.HandClock())

    async def ask(address: str, tokens: int) -> httpx2.Response:
        transport = httpx2.ASGITransport(app=app, client=(address, 1))  # type: ignore[arg-type]
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            return await http.post("/", content=b"." * (tokens - 1)) if tokens else await http.get("/healthz")

    assert (await ask("2001:db8::1", RATE.burst)).status_code == 200
    refused(await ask("2001:db8::2", 1), 429, "rate.requests")
    refused(await ask("2001:db8::3", 0), 429, "rate.requests")
    assert (await ask("2001:db8:0:1::1", 1)).status_code == 200
    assert (await ask("2001:db8:0:1::2", 0)).status_code == 200


async def test_who_hangs_up_in_the_middle_of_a_request_is_no_fault_of_the_network() -> None:
    before, sent = MISHAPS.counts(), list[Any]()
    came = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(came)

    async def send(message: Any) -> None:
        sent.append(message)

    http = {"type": "http", "method": "POST", "path": "/", "raw_path": b"/", "query_string": b"", "headers": []}
    scope: Any = {**http, "client": ("127.0.0.1", 1), "scheme": "http", "server": ("127.0.0.1", 1), "root_path": ""}
    await create_rpc_app(lambda body, _: body, fake_network.HandClock())(scope, receive, send)
    assert sent[0]["status"] == 400
    assert before == MISHAPS.counts()


# blobs


async def test_a_blob_goes_on_where_it_broke_off(http: httpx2.AsyncClient) -> None:
    data = bytes(range(256)) * 20
    path = f"/v1/blobs/{await upload(http, data)}"
    looked = await http.head(path, headers=key())
    assert (looked.status_code, looked.headers["content-length"], looked.content) == (200, str(len(data)), b"")
    whole = await http.get(path, headers=key())
    assert (whole.status_code, whole.content) == (200, data)
    assert whole.headers["content-disposition"] == "attachment"
    rest = await http.get(path, headers=key() | {"Range": "bytes=1000-"})
    assert (rest.status_code, rest.content) == (206, data[1000:])
    assert rest.headers["content-range"] == f"bytes 1000-{len(data) - 1}/{len(data)}"
    beyond = await http.get(path, headers=key() | {"Range": f"bytes={len(data)}-"})
    refused(beyond, 416, "blob.range")
    assert beyond.headers["content-range"] == f"bytes */{len(data)}"
    other_form = await http.get(path, headers=key() | {"Range": "bytes=0-1,5-6"})
    assert (other_form.status_code, other_form.content) == (200, data)


async def test_a_blob_must_have_its_hash(http: httpx2.AsyncClient) -> None:
    refused(await http.put(f"/v1/blobs/{sha(b'a')}", content=b"b", headers=key()), 400, "blob.hash")
    refused(await http.put("/v1/blobs/short", content=b"b", headers=key()), 400, "http.invalid")
    assert (await http.head(f"/v1/blobs/{sha(b'a')}", headers=key())).status_code == 404
    refused(await http.get(f"/v1/blobs/{sha(b'a')}", headers=key()), 404, "blob.missing")


async def test_a_blob_is_its_buyers_alone(http: httpx2.AsyncClient) -> None:
    path = f"/v1/blobs/{await upload(http, b'mine')}"
    refused(await http.get(path, headers=key(OTHER_KEY)), 404, "blob.missing")


async def test_a_blob_may_be_larger_than_json_but_not_than_its_limit() -> None:
    limits = Limits(json_bytes_max=100, blob_bytes_max=1000)
    async with fake_network.fake_network(limits) as network, browser(network) as http:
        await upload(http, b"0" * 1000)
        data = b"0" * 1001
        refused(await http.put(f"/v1/blobs/{sha(data)}", content=data, headers=key()), 413, "blob.too_large")

        async def unannounced() -> AsyncIterator[bytes]:
            yield data

        response = await http.put(f"/v1/blobs/{sha(data)}", content=unannounced(), headers=key())
        refused(response, 413, "blob.too_large")
        refused(await http.post("/v1/jobs", json={"label": "x" * 200}, headers=key()), 413, "http.body")


async def test_an_account_stores_so_fast_and_no_faster() -> None:
    async with fake_network.fake_network(Limits(uploads=Rate(10.0, 100))) as network, browser(network) as http:
        await upload(http, b"0" * 80)
        more = b"1" * 80
        response = await http.put(f"/v1/blobs/{sha(more)}", content=more, headers=key())
        refused(response, 429, "rate.requests")
        network.clock.advance(1000 * int(response.headers["retry-after"]))
        await upload(http, more)


async def test_a_node_reads_and_writes_what_its_ticket_says(network: FakeNetwork, http: httpx2.AsyncClient) -> None:
    given, other = await upload(http, b"given"), await upload(http, b"other")
    headers = network.ticket(NODE, reads=[bytes.fromhex(given)])
    assert (await http.get(f"/v1/blobs/{given}", headers=headers)).content == b"given"
    refused(await http.get(f"/v1/blobs/{other}", headers=headers), 403, "ticket.read")
    assert (await http.head(f"/v1/blobs/{other}", headers=headers)).status_code == 403
    output, large = b"o" * 100, b"o" * 101
    assert (await http.put(f"/v1/blobs/{sha(output)}", content=output, headers=headers)).status_code == 200
    refused(await http.put(f"/v1/blobs/{sha(large)}", content=large, headers=headers), 413, "blob.too_large")
    assert (await http.get(f"/v1/blobs/{sha(output)}", headers=key())).content == output


async def test_tickets_that_are_misused(network: FakeNetwork, http: httpx2.AsyncClient) -> None:
    reads = [bytes.fromhex(await upload(http, b"given"))]
    good = network.ticket(NODE, reads=reads)
    flipped = (
        good["Fallow-Ticket"][:20] + ("A" if good["Fallow-Ticket"][20] != "A" else "B") + good["Fallow-Ticket"][21:]
    )
    for headers, code in (
        (network.ticket(NODE, reads=reads, prover=STRANGER), "ticket.proof"),
        (network.ticket(NODE, reads=reads, expires_at=network.clock.ms), "ticket.expired"),
        (network.ticket(NODE, reads=reads, net="lab-2"), "ticket.net"),
        (network.ticket(NODE, reads=reads, signer=STRANGER), "ticket.signature"),
        (good | {"Fallow-Proof": network.ticket(NODE)["Fallow-Proof"]}, "ticket.proof"),
        (good | {"Fallow-Proof": ""}, "ticket.proof"),
        (good | {"Fallow-Proof": "*"}, "ticket.malformed"),
        (good | {"Fallow-Ticket": ""}, "ticket.malformed"),
        (good | {"Fallow-Ticket": "A" * 70_000}, "ticket.malformed"),
        # A bad ticket is not made good by a good key beside it.
        (network.ticket(NODE, net="lab-2") | key(), "ticket.net"),
    ):
        refused(await http.get(f"/v1/blobs/{reads[0].hex()}", headers=headers), 403, code)
    tampered = await http.get(f"/v1/blobs/{reads[0].hex()}", headers=good | {"Fallow-Ticket": flipped})
    assert tampered.status_code == 403
    assert (await http.get(f"/v1/blobs/{reads[0].hex()}", headers=good)).status_code == 200


async def test_a_ban_ends_a_ticket_at_once_and_what_it_was_moving(
    network: FakeNetwork, http: httpx2.AsyncClient
) -> None:
    given = await upload(http, b"given")
    headers = network.ticket(NODE, reads=[bytes.fromhex(given)])
    output = b"o" * 60

    async def ban() -> None:
        network.shut_out.add(NODE.verify_key.encode().hex())
        await network.bus.publish(calls.actions.BANNED, b"")
        for _ in range(5):  # the gateway hears of it
            await asyncio.sleep(0)

    async def broken_off() -> AsyncIterator[bytes]:
        yield output[:30]
        await ban()
        yield output[30:]

    async with network.app.state.gateway.nodes.hearing():
        assert (await http.get(f"/v1/blobs/{given}", headers=headers)).content == b"given"
        upload_ = await http.put(f"/v1/blobs/{sha(output)}", content=broken_off(), headers=headers)
        refused(upload_, 403, "ticket.node")
        refused(await http.get(f"/v1/blobs/{given}", headers=headers), 403, "ticket.node")
    refused(await http.get(f"/v1/blobs/{sha(output)}", headers=key()), 404, "blob.missing")
    network.shut_out.clear()
    assert (await http.get(f"/v1/blobs/{given}", headers=headers)).content == b"given"


async def test_a_lost_word_of_a_ban_is_made_up_for_within_seconds(
    network: FakeNetwork, http: httpx2.AsyncClient
) -> None:
    given = await upload(http, b"given")
    headers = network.ticket(NODE, reads=[bytes.fromhex(given)])
    assert (await http.get(f"/v1/blobs/{given}", headers=headers)).content == b"given"
    network.shut_out.add(NODE.verify_key.encode().hex())
    network.clock.advance(MOMENT_MS)
    refused(await http.get(f"/v1/blobs/{given}", headers=headers), 403, "ticket.node")


async def test_a_remembered_ticket_still_expires(network: FakeNetwork, http: httpx2.AsyncClient) -> None:
    given = await upload(http, b"given")
    headers = network.ticket(NODE, reads=[bytes.fromhex(given)])
    assert (await http.get(f"/v1/blobs/{given}", headers=headers)).status_code == 200
    network.clock.advance(60_000)
    refused(await http.get(f"/v1/blobs/{given}", headers=headers), 403, "ticket.expired")


async def test_a_ticket_opens_no_other_door(network: FakeNetwork, http: httpx2.AsyncClient) -> None:
    refused(await http.get("/v1/account", headers=network.ticket(NODE)), 401, "auth.missing")


async def test_a_lease_cannot_fill_the_disk_blob_by_blob(network: FakeNetwork, http: httpx2.AsyncClient) -> None:
    size = 6 << 20
    headers = network.ticket(NODE, write_bytes_max=size)
    statuses = []
    for n in range(6):
        data = bytes([n]) * size
        response = await http.put(f"/v1/blobs/{sha(data)}", content=data, headers=headers)
        statuses.append(response.status_code)
    assert statuses == [200] * 5 + [413]


async def test_nor_with_many_blobs_at_once(network: FakeNetwork, http: httpx2.AsyncClient) -> None:
    size, begun, go = 6 << 20, list[int](), asyncio.Event()
    headers = network.ticket(NODE, write_bytes_max=size)

    async def slowly(n: int) -> AsyncIterator[bytes]:
        begun.append(n)
        await go.wait()
        yield bytes([n]) * size

    async def put(n: int, content: bytes | AsyncIterator[bytes]) -> int:
        name = sha(bytes([n]) * size)
        return (await http.put(f"/v1/blobs/{name}", content=content, headers=headers)).status_code

    async with asyncio.TaskGroup() as group:
        taken = [group.create_task(put(n, slowly(n))) for n in range(5)]
        await until(lambda: len(begun) == len(taken), "all have begun")
        assert await put(5, bytes([5]) * size) == 413
        go.set()
    assert [one.result() for one in taken] == [200] * 5


# errors, limits, headers


async def test_errors_of_services_keep_their_meaning(http: httpx2.AsyncClient) -> None:
    body = await order(http, budget_microusd=fake_network.BUDGET_TOO_SMALL)
    error = refused(await http.post("/v1/jobs", json=body, headers=key()), 402, "ledger.funds")
    assert (error.kind, error.hint) == ("InsufficientFunds", "Add credits.")
    assert refused(await http.get("/v1/nothing"), 404, "http.not_found").kind == "NotFound"
    refused(await http.post("/healthz"), 405, "http.method")


async def test_what_nodes_are_called_and_their_cell_is_told_to_who_has_a_key(
    network: FakeNetwork, http: httpx2.AsyncClient
) -> None:
    network.nodes = [msgspec.structs.replace(CannedClient().node, label="barn", cell="851f1d4bfffffff")]
    for path in ("/v1/nodes", f"/v1/nodes/{network.nodes[0].node}"):
        assert not {"barn", "851f1d4bfffffff"} & set((await http.get(path)).text.split('"'))
        assert {"barn", "851f1d4bfffffff"} <= set((await http.get(path, headers=key())).text.split('"'))
    refused(await http.get("/v1/nodes", headers={"Authorization": "Bearer fk_nobody"}), 401, "auth.key")


async def test_a_silent_service_is_unavailable(network: FakeNetwork, http: httpx2.AsyncClient) -> None:
    network.bus._hub.up = False
    response = await http.get("/v1/nodes")
    refused(response, 503, "bus.disconnected")
    assert response.headers["retry-after"] == "1"


@pytest.mark.mishaps("GET /v1/blobs/{sha256}")
async def test_what_nobody_expected_tells_nothing(
    network: FakeNetwork, http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> int:
        raise RuntimeError("inner secret")

    monkeypatch.setattr(network.blobs, "size", broken)
    with caplog.at_level(logging.ERROR, logger="fallow.http.errors"):
        response = await http.get(f"/v1/blobs/{'0' * 64}", headers=key())
    refused(response, 500, "internal")
    assert "secret" not in response.text
    assert "inner secret" in caplog.text
    assert BUYER_KEY not in caplog.text


async def test_who_comes_from_ever_new_addresses_of_one_line_is_slowed_down() -> None:
    joining = {"token": "t", "node": "0" * 64, "proof": "0" * 128}
    async with fake_network.fake_network(Limits(address=Rate(1.0, 3))) as network:
        statuses = []
        for n in range(5):
            async with browser(network, host=f"2001:db8::{n}" if n < 4 else "2001:db8:0:1::1") as http:
                statuses.append((await http.post("/v1/join", json=joining)).status_code)
    assert statuses == [201, 201, 201, 429, 201]


@pytest.mark.parametrize("path", ["/healthz", "/v1/network", "/v1/nodes", "/schema/openapi.json"])
async def test_what_everybody_may_ask_has_the_rate_of_his_line(path: str) -> None:
    async with fake_network.fake_network(Limits(address=Rate(1.0, 2))) as network:
        statuses = []
        for host in ("2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8:0:1::1"):
            async with browser(network, host=host) as http:
                statuses.append((await http.get(path)).status_code)
    assert statuses == [200, 200, 429, 200]


async def test_no_route_is_without_a_guard(network: FakeNetwork) -> None:
    routes = [route for route in network.app.routes if isinstance(route, HTTPRoute)]
    handlers = [(route.path, handler) for route in routes for handler in route.route_handlers]
    unguarded = {
        path for path, handler in handlers if "OPTIONS" not in handler.http_methods and not handler.resolve_guards()
    }
    assert (len(handlers) > 50, unguarded) == (True, set())


def test_no_type_of_the_document_is_told_from_another_by_the_module_that_it_stands_in(network: FakeNetwork) -> None:
    types = network.app.openapi_schema.to_schema()["components"]["schemas"]
    assert (len(types) > 100, [name for name in types if "_" in name]) == (True, [])


async def test_an_address_is_slowed_down_and_recovers() -> None:
    limits = Limits(address=Rate(1.0, 3))
    joining = {"token": "t", "node": "0" * 64, "proof": "0" * 128}
    async with fake_network.fake_network(limits) as network, browser(network) as http:
        statuses = [(await http.post("/v1/join", json=joining)).status_code for _ in range(4)]
        assert statuses == [201, 201, 201, 429]
        response = await http.post("/v1/join", json=joining)
        refused(response, 429, "rate.requests")
        assert response.headers["retry-after"] == "1"
        refused(await http.get("/v1/account", headers=key("guess")), 429, "rate.requests")
        assert (await http.get("/v1/account", headers=key())).status_code == 200
        async with browser(network, "127.0.0.2") as neighbour:
            assert (await neighbour.post("/v1/join", json=joining)).status_code == 201
        network.clock.advance(1000)
        assert (await http.post("/v1/join", json=joining)).status_code == 201


async def test_a_key_is_slowed_down_alone() -> None:
    async with fake_network.fake_network(Limits(key=Rate(1.0, 2))) as network, browser(network) as http:
        statuses = [(await http.get("/v1/account", headers=key())).status_code for _ in range(3)]
        assert statuses == [200, 200, 429]
        assert (await http.get("/v1/account", headers=key(OTHER_KEY))).status_code == 200


async def test_a_key_has_few_words_recorded_whoever_signs_them() -> None:
    """What is kept of an operator's stake is carried from epoch to epoch; anybody makes accounts that sign one."""
    async with fake_network.fake_network(Limits(words=Rate(1.0, 2))) as network, browser(network) as http:

        async def say(by: int, said_by: str = BUYER_KEY) -> int:
            word = {"account": f"0x{by:040x}", "take_ppm": 0, "at_ms": 1, "signature": "0x" + "00" * 65}
            return (await http.post("/v1/stake/take", headers=key(said_by), json=word)).status_code

        assert [await say(by) for by in range(3)] == [201, 201, 429]
        assert await say(3, OTHER_KEY) == 201
        network.clock.advance(1000)
        assert [await say(by) for by in (4, 5)] == [201, 429]


async def test_every_answer_is_hardened(http: httpx2.AsyncClient) -> None:
    blob = await upload(http, b"x")
    for response in (
        await http.get("/v1/account", headers=key()),
        await http.get("/v1/account"),
        await http.get("/nothing"),
        await http.get(f"/v1/blobs/{blob}", headers=key()),
    ):
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cache-control"] == (
            "no-store"
            if response.headers["content-type"] == "application/json"
            else "private, max-age=31536000, immutable"
        )


async def test_the_openapi_document_lists_all(http: httpx2.AsyncClient) -> None:
    document = (await http.get("/schema/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    assert not [path for path in document["paths"] if path.startswith("/schema")], "it does not list itself"
    listed = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    for method, path in [*BUYERS_ROUTES, *OPERATORS_ROUTES, ("POST", "/v1/join"), ("HEAD", f"/v1/blobs/{'0' * 64}")]:
        templated = path
        for found, name in (
            (JOB * 2, "{sha256}"),
            (f"subscriptions/{JOB}", "subscriptions/{subscription_id}"),
            (JOB, "{job_id}"),
            ("items/0/", "items/{index}/"),
            (BUYER, "{account_id}"),
            ("keys/buyer", "keys/{key_id}"),
            ("a" * 64, "{key}"),
        ):
            templated = templated.replace(found, name)
        assert (method, templated) in listed
    assert "Order" in document["components"]["schemas"]


async def test_a_buyer_sees_and_ends_his_subscriptions(http: httpx2.AsyncClient) -> None:
    (found,) = (await http.get("/v1/subscriptions", headers=key())).json()
    assert (found["label"], found["limit_microusd"]) == (BUYER, 10)
    ended = await http.delete(f"/v1/subscriptions/{JOB}", headers=key())
    assert (ended.status_code, ended.json()["id"]) == (200, JOB)
    refused(await http.delete("/v1/subscriptions/nonsense", headers=key()), 400, "http.invalid")
