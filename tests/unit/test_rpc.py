"""Typed requests over the bus: what is too large for it is an answer, too."""

from __future__ import annotations

import asyncio
import logging

import pytest

from fallow.adapters.memory.bus import MemoryHub
from fallow.domain.errors import TooMuch, Unavailable
from fallow.ports.bus import MESSAGE_BYTES_MAX
from fallow.ports.mishaps import MISHAPS, steadily
from fallow.ports.rates import TooSoon
from fallow.ports.rpc import call, serve
from tests.unit.agent_fakes import FakeClock


async def test_an_answer_that_is_too_large_ends_no_service() -> None:
    hub = MemoryHub()

    async def repeat(count: int) -> str:
        return "x" * count

    async with serve(hub.connect(), "test.repeat", int, repeat, queue="test"):
        with pytest.raises(TooMuch) as caught:
            await call(hub.connect(), "test.repeat", MESSAGE_BYTES_MAX, str)
        assert caught.value.code == "rpc.reply_too_large"
        assert await call(hub.connect(), "test.repeat", 5, str) == "xxxxx"


async def test_a_special_case_of_an_error_arrives_as_the_kind_that_it_is_of() -> None:
    hub = MemoryHub()

    async def too_soon(_: int) -> None:
        raise TooSoon(7)

    async with serve(hub.connect(), "test.soon", int, too_soon, queue="test"):
        with pytest.raises(TooMuch) as caught:
            await call(hub.connect(), "test.soon", 1, str)
    assert (caught.value.code, caught.value.hint) == ("rate.requests", "Try again in 7 s.")


@pytest.mark.mishaps("test.divide")
async def test_a_request_that_hits_a_bug_is_answered_logged_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    hub = MemoryHub()

    async def divide(by: int) -> float:
        return 1 / by

    before = MISHAPS.counts().get("test.divide", 0)
    async with serve(hub.connect(), "test.divide", int, divide, queue="test"):
        for _ in range(2):
            with pytest.raises(Unavailable) as caught:
                await call(hub.connect(), "test.divide", 0, float)
            assert caught.value.code == "internal"
            assert "division" not in str(caught.value), "what is wrong inside is the operator's business"
        assert await call(hub.connect(), "test.divide", 2, float) == 0.5
    assert MISHAPS.counts()["test.divide"] == before + 2
    (first, _) = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert "test.divide failed unexpectedly" in first.message
    assert "ZeroDivisionError" in caplog.text
    assert "in divide" in caplog.text, "with its place"


@pytest.mark.mishaps("test.unencodable")
async def test_an_answer_that_cannot_be_encoded_is_a_bug_as_well() -> None:
    hub = MemoryHub()

    async def answer(_: int) -> object:
        return object()

    async with serve(hub.connect(), "test.unencodable", int, answer, queue="test"):
        with pytest.raises(Unavailable, match="failed at this"):
            await call(hub.connect(), "test.unencodable", 1, int)


@pytest.mark.mishaps("test.loop")
async def test_a_loop_that_fails_begins_again_where_it_was() -> None:
    clock, heard = FakeClock(), []
    messages: asyncio.Queue[int] = asyncio.Queue()

    async def hear() -> None:
        while True:
            number = await messages.get()
            heard.append(1 / number)

    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        listening = group.create_task(steadily("test.loop", hear, clock))
        for number in (1, 0, 2):
            messages.put_nowait(number)
        await clock.advance(0)
        assert heard == [1.0]
        await clock.advance(2)
        assert heard == [1.0, 0.5]
        listening.cancel()
