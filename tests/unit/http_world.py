"""The control API in this process, over a bus in memory, and how tests ask it."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import msgspec
import pytest
from nacl.signing import SigningKey

from fallow.domain.orders import Order
from fallow.domain.views.base import ErrorView
from tests.unit import fake_network
from tests.unit.fake_network import BUYER_KEY, FakeNetwork

NODE = SigningKey(b"1" * 32)
STRANGER = SigningKey(b"2" * 32)
JOB = "0" * 32


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


def events_of(response: httpx2.Response) -> list[tuple[str, dict[str, Any]]]:
    blocks = [block.split("\n") for block in response.text.split("\n\n") if block and not block.startswith(":")]
    return [(name.removeprefix("event: "), msgspec.json.decode(data.removeprefix("data: "))) for name, data in blocks]
