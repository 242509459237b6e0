"""What the control API bears: errors, limits, and what it says of itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import httpx2
import msgspec
import pytest
from litestar.routes import HTTPRoute

from fallow.domain import calls
from fallow.domain.errors import NotFound
from fallow.http.json_rpc import RATE, create_rpc_app
from fallow.http.limits import Limits
from fallow.ports.mishaps import MISHAPS
from fallow.ports.rates import Rate
from fallow.ports.rpc import serve
from tests.unit import fake_network
from tests.unit.canned_client import CannedClient
from tests.unit.fake_network import BUYER_KEY, OTHER_KEY, FakeNetwork
from tests.unit.http_world import JOB, browser, key, order, refused, submitted, upload

# streams


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
