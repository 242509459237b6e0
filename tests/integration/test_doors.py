"""Malformed input at every public entry of a real network: each is refused with a code, and nothing stops working."""

from __future__ import annotations

import asyncio
import gzip
import secrets
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from fallow.adapters.nats.bus import NatsBus, connect_nats
from fallow.adapters.nats.nkeys import KeySigner
from fallow.adapters.nats.permissions import inbox_prefix
from fallow.agent.identity import NodeKey
from fallow.domain import calls
from fallow.domain.views.base import ErrorView
from tests.network import BOUND, Running, running_network

pytestmark = pytest.mark.xdist_group("doors")

JSON = {"Content-Type": "application/json"}
DEEP = b"[" * 50_000
LARGE = b'{"label": "' + b"x" * (2 << 20) + b'"}'


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    """A network of this module's own."""
    with running_network() as running:
        yield running


def key(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


async def still_works(running: Running) -> None:
    """All roles answer."""
    async with httpx2.AsyncClient(base_url=running.url, timeout=BOUND) as http:
        for path, secret in (("/v1/jobs", "buyer_key"), ("/v1/operator/ledger-check", "operator_key")):
            assert (await http.get(path, headers=key(running.welcome[secret]))).status_code == 200
        assert (await http.get("/v1/nodes")).status_code == 200


BODIES = {
    "nothing": (b"", 400, "http.invalid"),
    "half a document": (b'{"id": ', 400, "http.invalid"),
    "another type": (b"[]", 400, "http.invalid"),
    "null": (b"null", 400, "http.invalid"),
    "not UTF-8": (b'{"label": "\xff"}', 400, "http.invalid"),
    "half a surrogate": (b'{"label": "\\ud800"}', 400, "http.invalid"),
    "too deep": (DEEP, 400, "http.invalid"),
    "a number without end": (b'{"id": ' + b"9" * 5000 + b"}", 400, "http.invalid"),
    "compressed": (gzip.compress(b"{}"), 400, "http.invalid"),
    "unknown fields": (b'{"surprise": 1}', 400, "http.invalid"),
    "too large": (LARGE, 413, "http.body"),
}
TAKES_JSON = {
    "/v1/join": "",
    "/v1/jobs": "buyer_key",
    "/v1/quotes": "buyer_key",
    "/v1/operator/keys": "operator_key",
    "/v1/operator/tokens": "operator_key",
    "/v1/operator/credits": "operator_key",
}


@pytest.mark.parametrize("path", TAKES_JSON)
async def test_bodies_that_are_none(running: Running, path: str) -> None:
    headers = JSON | (key(running.welcome[TAKES_JSON[path]]) if TAKES_JSON[path] else {})
    async with httpx2.AsyncClient(base_url=running.url, timeout=BOUND) as http:
        for what, (body, status, code) in BODIES.items():
            answer = await http.post(path, content=body, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (status, code), (what, answer.text)
            assert msgspec.json.decode(answer.content, type=ErrorView).message


REQUESTS = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "no path": b"GET HTTP/1.1\r\n\r\n",
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "two lengths": b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    "a length below zero": b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    "a length and chunks": b"POST /v1/join HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n"
    b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "bad chunks": b"POST /v1/join HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nnothex\r\nx\r\n0\r\n\r\n",
    "a header without end": b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: " + b"a" * (1 << 20),
    "bytes in a path": b"GET /v1/jobs/\xff\xfe%00%zz HTTP/1.1\r\nHost: a\r\n\r\n",
    "a way up": b"GET /v1/../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("what", REQUESTS)
async def test_requests_that_are_none(running: Running, what: str) -> None:
    url = httpx2.URL(running.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        writer.write(REQUESTS[what])
        writer.write_eof()
        answer = await reader.read()
    except OSError:  # it hung up on us
        answer = b""
    finally:
        writer.close()
    assert not answer or 400 <= int(answer.split()[1]) < 500, answer


async def test_keys_that_open_nothing(running: Running) -> None:
    async with httpx2.AsyncClient(base_url=running.url, timeout=BOUND) as http:
        made = await http.post(
            "/v1/operator/keys", json={"label": "soon ended"}, headers=key(running.welcome["operator_key"])
        )
        revoked = made.json()["secret"]
        assert (await http.get("/v1/account", headers=key(revoked))).status_code == 200
        ended = await http.delete(
            f"/v1/operator/keys/{revoked.split('_')[1]}", headers=key(running.welcome["operator_key"])
        )
        assert ended.status_code == 204
        forged = revoked[:-1] + ("a" if revoked[-1] != "a" else "b")
        for secret in (revoked, forged, "fk_", secrets.token_hex(90), running.welcome["join_token"]):
            answer = await http.get("/v1/account", headers=key(secret))
            assert (answer.status_code, answer.json()["code"]) == (401, "auth.key")


async def test_joins_that_let_nobody_in(running: Running) -> None:
    good = {"token": "fj_x", "node": "0" * 64, "proof": "0" * 128}
    async with httpx2.AsyncClient(base_url=running.url, timeout=BOUND) as http:
        for change, status, code in (
            ({"token": ""}, 403, "join.proof"),
            ({"token": "t" * 201}, 400, "http.invalid"),
            ({"node": "0" * 63}, 400, "http.invalid"),
            ({"node": "0" * 64 + "\n"}, 400, "identity.malformed"),
            ({"node": "G" * 64}, 400, "http.invalid"),
            ({"proof": "0" * 127}, 400, "http.invalid"),
            ({"proof": None}, 400, "http.invalid"),
            ({"label": "\0"}, 400, "http.invalid"),
            ({"label": "x" * 81}, 400, "http.invalid"),
            ({"account": "0x"}, 400, "http.invalid"),
            ({}, 403, "join.proof"),
        ):
            answer = await http.post("/v1/join", json=good | change)
            assert (answer.status_code, answer.json()["code"]) == (status, code), (change, answer.text)


async def test_what_a_node_may_send_and_nobody_understands(running: Running, tmp_path: Path) -> None:
    node = NodeKey.load_or_create(tmp_path / "node")
    await enrol(running, node)
    opening = {"salt": 1, "value": 1}
    async with connected(running, node) as bus:
        for data, code in (
            (b"", "rpc.malformed"),
            (b"\xc1", "rpc.malformed"),
            (b"\xff" * 1000, "rpc.malformed"),
            (b"\xdd\xff\xff\xff\xff", "rpc.malformed"),
            (b"\x81\xa5bat\xffh\x01", "rpc.malformed"),
            (
                pack(batch=b"", openings={"0": {"x": {"salt": b"", "value": 0}}})[:-1] + b"\x91" * 50_000,
                "rpc.malformed",
            ),
            (pack(batch="text"), "rpc.malformed"),
            (pack(batch=b"", surprise=1), "rpc.malformed"),
            (pack(batch=b"", openings={"0": {"x": opening}}), "rpc.malformed"),
            (pack(batch=b""), "encoding.malformed"),
            (pack(batch=b"\x9f" * 10_000), "encoding.malformed"),
        ):
            reply = msgspec.msgpack.decode(await bus.request(calls.nodes.ingest(node.text), data, timeout_s=BOUND))
            assert reply["error"][:2] == ["InvalidInput", code], (data[:20], reply)
        for beat in (b"", b"\xc1", b"\xff" * 1000, *BEATS):
            await bus.publish(calls.nodes.beats(node.text), beat)
    await still_works(running)


def pack(**fields: Any) -> bytes:
    return msgspec.msgpack.encode(fields)


ENDLESS = pack(batch=b"", openings={"0": {"x": {"salt": b"", "value": 0}}})[:-1] + b"\x91" * 50_000
BEATS = [
    pack(node="x", boot=1, leases=[]),
    pack(node="0" * 64, boot=-1, leases=["no hex"]),
    pack(node="0" * 64, boot=2**64 - 1, leases=["00"] * 10_000),
]


async def enrol(running: Running, node: NodeKey) -> None:
    token = running.welcome["join_token"]
    proof = node.sign(calls.nodes.join_message(token, node.text)).hex()
    async with httpx2.AsyncClient(base_url=running.url, timeout=BOUND) as http:
        answer = await http.post("/v1/join", json={"token": token, "node": node.text, "proof": proof})
        assert answer.status_code == 201, answer.text


def connected(running: Running, node: NodeKey) -> AbstractAsyncContextManager[NatsBus]:
    return connect_nats(
        running.place["bus_url"],
        signer=KeySigner(node.node, node.sign),
        name="a test",
        tls=None,
        inbox_prefix=inbox_prefix(node.node),
    )
