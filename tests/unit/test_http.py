"""The control API, in this process, over a bus in memory."""

from __future__ import annotations

import asyncio

import httpx2
import msgspec
import pytest

from fallow.domain.delegations import Receipt
from fallow.domain.prices import Delivered, cost_microusd
from fallow.http import jobs
from fallow.sdk.bills import offers
from fallow.sdk.signing import BuyerKey
from tests.unit import fake_network
from tests.unit.fake_network import BUYER, BUYER_KEY, OPERATOR, OPERATOR_KEY, OTHER_KEY, PROVIDER_KEY, FakeNetwork
from tests.unit.http_world import JOB, events_of, key, order, refused, submitted, upload

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


# subscriptions


async def test_a_buyer_sees_and_ends_his_subscriptions(http: httpx2.AsyncClient) -> None:
    (found,) = (await http.get("/v1/subscriptions", headers=key())).json()
    assert (found["label"], found["limit_microusd"]) == (BUYER, 10)
    ended = await http.delete(f"/v1/subscriptions/{JOB}", headers=key())
    assert (ended.status_code, ended.json()["id"]) == (200, JOB)
    refused(await http.delete("/v1/subscriptions/nonsense", headers=key()), 400, "http.invalid")


# the document


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
