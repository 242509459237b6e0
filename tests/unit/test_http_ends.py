"""What is read of a job for long ends with the key that asked for it."""

from __future__ import annotations

import asyncio

import httpx2
import pytest

from fallow.domain import calls
from fallow.domain.commands import Kind, encode_data
from fallow.domain.errors import Conflict
from fallow.domain.streams import Opening
from fallow.ports.rpc import serve
from fallow.ports.streams import Stream
from tests.memory_streams import MemoryStream, stream_pair
from tests.unit.fake_network import BUYER_KEY, FakeNetwork
from tests.unit.http_world import JOB, events_of, key, submitted

LS = {"command": ["ls"]}


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
