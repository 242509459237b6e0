"""Blobs of leases over HTTP: shared, resumed, checked, and each owner's apart."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from nacl.signing import SigningKey

from fallow.agent.blobs import BlobGateway, GatewayBlobs
from fallow.agent.cache import InputCache
from fallow.agent.http import check_url, new_client
from fallow.agent.identity import NodeKey
from fallow.domain.errors import FallowError, InvalidInput, NotAllowed, NotFound, TooMuch, Unavailable
from fallow.domain.tickets import Ticket, proven

KEY = NodeKey(bytes(range(32)))
NETWORK = SigningKey(bytes(32))
LEASE = f"{1:032x}"
DATA = bytes(range(256)) * 20_000
SHA256 = hashlib.sha256(DATA).hexdigest()
INPUT_BYTES_MAX = 64 << 20


class NoTime:
    """A clock on which waiting takes no time."""

    def now_ms(self) -> int:
        """See the port."""
        return 0

    def monotonic_ms(self) -> int:
        """See the port."""
        return 0

    async def sleep(self, seconds: float) -> None:
        """See the port."""


class Cut(httpx2.AsyncByteStream):
    """A body that breaks off after some bytes."""

    def __init__(self, data: bytes, cut_at: int | None) -> None:
        self.data, self.cut_at = data, cut_at

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.data[: self.cut_at]
        if self.cut_at is not None:
            raise httpx2.ReadError("gone")


class FakeGateway:
    """`cuts` are where the next answers break off; `status` replaces an answer."""

    def __init__(self, tmp_path: Path) -> None:
        self.blobs = {SHA256: DATA}
        self.requests: list[httpx2.Request] = []
        self.cuts: list[int | None] = []
        self.status = 0
        self.ranges = True
        self.client = new_client(httpx2.MockTransport(self.answer))
        self.cache = InputCache(tmp_path / "cache", 100 << 20)
        self.gateway = BlobGateway(
            self.client,
            "http://127.0.0.1:1/",
            self.cache,
            NoTime(),
            node=KEY.node,
            sign=KEY.sign,
            network_key=bytes(NETWORK.verify_key),
        )

    async def answer(self, request: httpx2.Request) -> httpx2.Response:
        """Answer as the network's gateway does."""
        self.requests.append(request)
        await asyncio.sleep(0)
        sha256 = request.url.path.removeprefix("/v1/blobs/")
        if self.status:
            return httpx2.Response(self.status, json={"kind": "x", "code": "a.b", "message": "No."})
        if request.method == "PUT":
            self.blobs[sha256] = await request.aread()
            return httpx2.Response(201, json={})
        if sha256 not in self.blobs:
            return httpx2.Response(404, json={"kind": "NotFound", "code": "blob.unknown", "message": "No such blob."})
        asked = request.headers.get("Range", "")
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.ranges else 0
        cut = self.cuts.pop(0) if self.cuts else None
        headers = {"Content-Range": f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"} if start else {}
        stream = Cut(self.blobs[sha256][start:], cut)
        return httpx2.Response(206 if start else 200, headers=headers, stream=stream)

    def lease(self, **changes: Any) -> GatewayBlobs:
        """The blobs of a lease with a good ticket."""
        limit = changes.pop("input_bytes_max", INPUT_BYTES_MAX)
        return self.gateway.lease(LEASE, self.ticket(**changes), input_bytes_max=limit)

    def ticket(self, **changes: Any) -> str:
        """Seal a ticket."""
        fields: dict[str, Any] = {
            "net": "lab",
            "node": KEY.node,
            "lease": bytes.fromhex(LEASE),
            "owner": b"o" * 20,
            "reads": [bytes.fromhex(SHA256)],
            "write_bytes_max": 1 << 24,
            "expires_at": 1,
        }
        key = changes.pop("key", NETWORK)
        sealed = Ticket(**{**fields, **changes}).seal(lambda message: key.sign(message).signature)
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[FakeGateway]:
    gateway = FakeGateway(tmp_path)
    async with gateway.client:
        yield gateway


async def test_leases_share_one_download(it: FakeGateway, tmp_path: Path) -> None:
    await asyncio.gather(*(it.lease().fetch(SHA256, tmp_path / str(number)) for number in range(8)))
    assert {(tmp_path / str(number)).read_bytes() == DATA for number in range(8)} == {True}
    assert len(it.requests) == 1


async def test_the_node_proves_its_key_with_each_request(it: FakeGateway, tmp_path: Path) -> None:
    await it.lease().fetch(SHA256, tmp_path / "a")
    headers = it.requests[0].headers
    ticket, proof = (base64.urlsafe_b64decode(headers[name] + "==") for name in ("Fallow-Ticket", "Fallow-Proof"))
    assert proven(ticket, KEY.node, proof)


async def test_another_owner_does_not_get_it_from_the_cache(it: FakeGateway, tmp_path: Path) -> None:
    await it.lease().fetch(SHA256, tmp_path / "a")
    it.status = 404
    with pytest.raises(NotFound):
        await it.lease(owner=b"p" * 20).fetch(SHA256, tmp_path / "b")


async def test_what_the_ticket_does_not_name_is_not_asked_for(it: FakeGateway, tmp_path: Path) -> None:
    with pytest.raises(NotAllowed):
        await it.lease(reads=[]).fetch(SHA256, tmp_path / "a")
    assert it.requests == []


@pytest.mark.parametrize("ranges", [True, False])
async def test_a_broken_download_goes_on(it: FakeGateway, tmp_path: Path, *, ranges: bool) -> None:
    it.cuts = [1000, 50_000]
    it.ranges = ranges
    await it.lease().fetch(SHA256, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == DATA
    expected = [None, "bytes=1000-", "bytes=51000-"] if ranges else [None, "bytes=1000-", "bytes=50000-"]
    assert [request.headers.get("Range") for request in it.requests] == expected


async def test_other_bytes_are_not_taken(it: FakeGateway, tmp_path: Path) -> None:
    it.blobs[SHA256] = DATA[:-1] + b"!"
    with pytest.raises(Unavailable) as caught:
        await it.lease().fetch(SHA256, tmp_path / "a")
    assert caught.value.code == "agent.blob_corrupt"
    assert not (tmp_path / "a").exists()
    it.blobs[SHA256] = DATA
    await it.lease().fetch(SHA256, tmp_path / "a")


async def test_a_damaged_cache_is_noticed(it: FakeGateway, tmp_path: Path) -> None:
    await it.lease().fetch(SHA256, tmp_path / "a")
    (kept,) = (tmp_path / "cache").glob("*/" + SHA256)
    kept.write_bytes(b"x" + DATA[1:])
    await it.lease().fetch(SHA256, tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == DATA
    assert len(it.requests) == 2


async def test_the_cache_is_bounded(tmp_path: Path) -> None:
    cache = InputCache(tmp_path / "cache", 25)

    async def download(sha256: str, part: Path, _: int) -> None:
        await asyncio.to_thread(part.write_bytes, sha256[:1].encode() * 10)

    hashes = [hashlib.sha256(text * 10).hexdigest() for text in (b"a", b"b", b"c", b"d")]
    by_hash = dict(zip(hashes, (b"a", b"b", b"c", b"d"), strict=True))

    async def right(sha256: str, part: Path, _: int) -> None:
        await asyncio.to_thread(part.write_bytes, by_hash[sha256] * 10)

    for number, sha256 in enumerate(hashes):
        await cache.copy("owner", sha256, tmp_path / str(number), right, bytes_max=100)
    assert len(list((tmp_path / "cache" / "owner").iterdir())) == 2
    with pytest.raises(Unavailable, match="does not stay"):
        await cache.copy("owner", "0" * 64, tmp_path / "x", download, bytes_max=100)


async def test_inputs_over_the_leases_disk_are_refused(it: FakeGateway, tmp_path: Path) -> None:
    with pytest.raises(TooMuch):
        await it.lease(input_bytes_max=1000).fetch(SHA256, tmp_path / "a")
    await it.lease().fetch(SHA256, tmp_path / "a")
    with pytest.raises(TooMuch):
        await it.lease(input_bytes_max=1000).fetch(SHA256, tmp_path / "b")
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("size", [0, 5, 3 << 20])
async def test_outputs_are_stored_once_a_lease(it: FakeGateway, tmp_path: Path, size: int) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"r" * size)
    lease = it.lease()
    stored = await asyncio.gather(lease.store(path), lease.store(path))
    assert {it.blobs[sha256] for sha256 in stored} == {b"r" * size}
    assert [request.method for request in it.requests] == ["PUT"]
    assert it.requests[0].headers["Content-Length"] == str(size)


@pytest.mark.parametrize(
    ("status", "kind"), [(503, Unavailable), (429, Unavailable), (403, NotAllowed), (413, TooMuch), (400, InvalidInput)]
)
async def test_refusals_are_told_apart(it: FakeGateway, tmp_path: Path, status: int, kind: type[FallowError]) -> None:
    it.status = status
    path = tmp_path / "out"
    path.write_bytes(b"x")
    with pytest.raises(kind) as caught:
        await it.lease().store(path)
    assert caught.value.code == "a.b"
    assert len(it.requests) == (5 if kind is Unavailable else 1)


async def test_an_output_over_the_tickets_limit_is_not_sent(it: FakeGateway, tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"xy")
    with pytest.raises(TooMuch):
        await it.lease(write_bytes_max=1).store(path)
    assert it.requests == []


@pytest.mark.parametrize("changes", [{"node": bytes(32)}, {"lease": bytes(16)}, {"key": SigningKey(b"k" * 32)}])
async def test_a_ticket_that_does_not_fit_is_refused(it: FakeGateway, changes: dict[str, Any]) -> None:
    with pytest.raises(NotAllowed):
        it.lease(**changes)


@pytest.mark.parametrize("url", ["http://192.0.2.1:80", "ftp://x", "", "https://", "http://localhost.example"])
def test_addresses_that_are_none_or_in_plain_text_are_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        check_url(url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:80/", "http://[::1]:8", "http://localhost", "https://x.example"])
def test_addresses_that_are_fine(url: str) -> None:
    assert check_url(url) == url.rstrip("/")
