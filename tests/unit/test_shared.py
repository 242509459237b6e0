"""Readers share answers: the network is asked once for all of them, and what they are shown is of a moment ago."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest

from fallow.domain.errors import Unavailable
from fallow.http.shared import FRESH_MS, MORE_BYTES, OLDEST_MS, Shared
from tests.network import until
from tests.unit.fake_network import FakeNetwork, HandClock
from tests.unit.sdk_world import URL


class Asked:
    """Answers with how often it was asked, when it is told to."""

    def __init__(self) -> None:
        self.times = 0
        self.may_answer = asyncio.Event()
        self.error: Exception | None = None

    async def ask(self) -> int:
        """Answer, or raise `error`."""
        self.times += 1
        answer = self.times
        await self.may_answer.wait()
        if self.error is not None:
            raise self.error
        return answer


async def read(shared: Shared, asked: Asked) -> bytes:
    return (await shared.answer("a", asked.ask)).data


async def test_many_readers_ask_once_and_who_comes_a_moment_later_not_at_all() -> None:
    clock, asked = HandClock(), Asked()
    shared = Shared(clock)
    async with asyncio.TaskGroup() as group:
        readers = [group.create_task(read(shared, asked)) for _ in range(100)]
        await until(lambda: asked.times == 1, "the first one asks")
        asked.may_answer.set()
    assert {reader.result() for reader in readers} == {b"1"}
    clock.advance(FRESH_MS - 1)
    assert await read(shared, asked) == b"1"
    assert (await shared.answer("another", asked.ask)).data == b"2"


async def test_while_one_reader_asks_again_the_others_do_not_wait_unless_it_is_old() -> None:
    clock, asked = HandClock(), Asked()
    shared = Shared(clock)
    asked.may_answer.set()
    await read(shared, asked)
    asked.may_answer.clear()
    clock.advance(FRESH_MS)
    async with asyncio.TaskGroup() as group:
        asks = group.create_task(read(shared, asked))
        await until(lambda: asked.times == 2, "one asks again")
        assert await read(shared, asked) == b"1"
        clock.advance(OLDEST_MS - FRESH_MS)
        waits = group.create_task(read(shared, asked))
        asked.may_answer.set()
    assert (asks.result(), waits.result()) == (b"2", b"2")
    assert await read(shared, asked) == b"3"  # an answer's age counts from when it was asked for


async def test_an_error_is_told_to_all_who_wait_and_to_nobody_later() -> None:
    clock, asked = HandClock(), Asked()
    shared = Shared(clock)
    asked.error = Unavailable("bus.disconnected", "It is away.")
    told: list[str] = []

    async def hear() -> None:
        try:
            await read(shared, asked)
        except Unavailable as error:
            told.append(error.code)

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(hear())
        await until(lambda: asked.times == 1, "one asks")
        asked.may_answer.set()
    assert told == ["bus.disconnected"] * 3
    asked.error = None
    assert await read(shared, asked) == b"2"


async def test_where_the_reader_who_asks_goes_away_the_next_one_asks() -> None:
    clock, asked = HandClock(), Asked()
    shared = Shared(clock)
    async with asyncio.TaskGroup() as group:
        first, second = (group.create_task(read(shared, asked)) for _ in range(2))
        await until(lambda: asked.times == 1, "one asks")
        first.cancel()
        await until(lambda: asked.times == 2, "the next one asks")
        asked.may_answer.set()
    assert first.cancelled()
    assert second.result() == b"2"


async def test_answers_take_so_much_memory_and_no_more() -> None:
    asked = Asked()
    asked.may_answer.set()
    shared = Shared(HandClock(), bytes_max=3 * (MORE_BYTES + 2))
    for address in ("a", "b", "c", "a", "d", "a", "c"):
        await shared.answer(address, asked.ask)
    assert asked.times == 4
    await shared.answer("b", asked.ask)  # was read longest ago when d came
    assert asked.times == 5
    assert shared._bytes == sum(len(one.data) + MORE_BYTES for one in shared._kept.values()) <= 3 * (MORE_BYTES + 2)


@pytest.fixture
async def http(network: FakeNetwork) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=network.app)  # type: ignore[arg-type]
    async with httpx2.AsyncClient(transport=transport, base_url=URL) as client:
        yield client


@pytest.mark.parametrize("path", ["/v1/market", "/v1/map?resolution=1", "/v1/nodes?limit=7", "/v1/networks"])
async def test_who_has_an_answer_gets_it_again_only_when_it_is_another(
    network: FakeNetwork, http: httpx2.AsyncClient, path: str
) -> None:
    first = await http.get(path)
    etag = first.headers["ETag"]
    for has in (etag, f"W/{etag}", f'"other", {etag}'):  # a proxy that compresses makes it a weak one
        again = await http.get(path, headers={"If-None-Match": has})
        assert (again.status_code, again.content, again.headers["Cache-Control"]) == (304, b"", "no-cache")
    network.bus._hub.up = False  # nobody is asked
    assert (await http.get(path)).json() == first.json()
    assert (await http.get(path, headers={"If-None-Match": '"other"'})).content == first.content


async def test_what_members_are_told_is_kept_for_nobody(network: FakeNetwork, http: httpx2.AsyncClient) -> None:
    member = {"Authorization": f"Bearer {next(iter(network.keys))}"}
    told = await http.get("/v1/nodes", headers=member)
    assert "ETag" not in told.headers
    assert told.headers["Cache-Control"] == "no-store"
    assert network.app.state.gateway.shared._kept == {}
