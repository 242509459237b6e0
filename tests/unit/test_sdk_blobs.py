"""The buyers' client moves blobs, whatever breaks off."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from fallow.domain.errors import (
    Conflict,
    NotAllowed,
    TooMuch,
)
from fallow.sdk.client import AsyncClient
from tests.unit.fake_network import FakeNetwork
from tests.unit.sdk_world import Broken, canned, connected, failure, names


@pytest.fixture
async def client(network: FakeNetwork) -> AsyncIterator[AsyncClient]:
    async with connected(network) as client:
        yield client


async def test_a_file_goes_up_once_and_comes_back(client: AsyncClient, tmp_path: Path) -> None:
    data = bytes(range(256)) * 10_000
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(data)
    sha256 = await client.upload(source)
    assert sha256 == hashlib.sha256(data).hexdigest()
    assert await client.has(sha256)
    assert await client.download(sha256, target) == len(data)
    assert target.read_bytes() == data == await client.read(sha256)
    assert names(tmp_path) == ["source", "target"]


async def test_a_file_comes_beside_whatever_is_there_under_the_longest_name(
    client: AsyncClient, tmp_path: Path
) -> None:
    target = tmp_path / ("n" * 255)
    (tmp_path / "short.part").write_bytes(b"another file of the program")
    sha256 = await client.upload(b"data")
    for path in (target, tmp_path / "short"):
        await client.download(sha256, path)
        assert path.read_bytes() == b"data"
    assert (tmp_path / "short.part").read_bytes() == b"another file of the program"
    assert len(names(tmp_path)) == 3


async def test_a_blob_that_is_there_is_not_sent() -> None:
    seen: list[httpx2.Request] = []
    async with canned(httpx2.Response(200), seen=seen) as client:
        await client.upload(b"x")
    assert [request.method for request in seen] == ["HEAD"]


async def test_an_upload_that_broke_off_is_sent_whole_again() -> None:
    seen: list[httpx2.Request] = []
    answers: list[httpx2.Response | Exception] = [
        httpx2.Response(404),
        httpx2.WriteError("reset"),
        httpx2.Response(200),
    ]
    async with canned(*answers, seen=seen) as client:
        await client.upload(b"data")
    assert [request.method for request in seen] == ["HEAD", "PUT", "PUT"]
    assert await seen[-1].aread() == b"data"


async def test_no_such_key_is_not_taken_for_no_such_blob() -> None:
    async with canned(httpx2.Response(401), failure(401, "NotAllowed", "auth.key")) as client:
        with pytest.raises(NotAllowed) as raised:
            await client.upload(b"x")
    assert raised.value.code == "auth.key"


async def test_a_download_goes_on_where_it_broke_off(tmp_path: Path) -> None:
    data = b"0123456789"
    seen: list[httpx2.Request] = []
    answers: list[httpx2.Response | Exception] = [
        httpx2.Response(200, stream=Broken(data[:4])),
        httpx2.ConnectError("down"),
        httpx2.Response(206, stream=Broken(data[4:7])),
        httpx2.Response(206, content=data[7:]),
    ]
    async with canned(*answers, seen=seen) as client:
        await client.download(hashlib.sha256(data).hexdigest(), tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == data
    assert [request.headers.get("range") for request in seen] == [None, "bytes=4-", "bytes=4-", "bytes=7-"]


async def test_a_server_that_starts_over_is_understood(tmp_path: Path) -> None:
    data = b"0123456789"
    async with canned(httpx2.Response(200, stream=Broken(data[:4])), httpx2.Response(200, content=data)) as client:
        await client.download(hashlib.sha256(data).hexdigest(), tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == data


async def test_a_break_after_the_last_byte() -> None:
    data = b"0123456789"
    answers = [httpx2.Response(200, stream=Broken(data)), failure(416, "InvalidInput", "blob.range")]
    async with canned(*answers) as client:
        assert await client.read(hashlib.sha256(data).hexdigest()) == data


async def test_other_bytes_are_noticed_and_not_kept(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"before")
    async with canned(httpx2.Response(200, content=b"other")) as client:
        with pytest.raises(Conflict) as raised:
            await client.download(hashlib.sha256(b"wanted").hexdigest(), target)
    assert raised.value.code == "sdk.hash"
    assert (names(tmp_path), target.read_bytes()) == (["target"], b"before")


async def test_what_does_not_fit_into_memory_is_refused() -> None:
    async with canned(httpx2.Response(200, content=b"12345")) as client:
        with pytest.raises(TooMuch) as raised:
            await client.read(hashlib.sha256(b"12345").hexdigest(), bytes_max=4)
    assert raised.value.code == "sdk.memory"
