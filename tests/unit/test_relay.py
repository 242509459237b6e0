"""What a relay lets go of, by a clock that only the test moves."""

from __future__ import annotations

import asyncio

import pytest
from nacl.signing import SigningKey

from fallow.domain.errors import Unavailable
from fallow.ports.dialling import RESUME_S
from fallow.services.relay.service import OPENER_IDLE_S
from tests.streams_world import opening, world
from tests.unit.agent_fakes import FakeClock


async def test_an_opener_who_opens_nothing_is_let_go_and_one_who_does_is_not() -> None:
    clock = FakeClock()
    async with (
        asyncio.timeout(120),
        world("memory", clock=clock) as net,
        net.echoing(),
        net.session(SigningKey.generate(), node=False) as busy,
        net.session(SigningKey.generate(), node=False) as idle,
    ):
        await clock.advance(1)
        stream = busy.open(opening().write())
        await stream.write(b"x")
        assert await stream.read() == b"x"
        before = len(net.relay._sessions._held)
        assert before == 3
        for _ in range(4):
            await clock.advance(OPENER_IDLE_S / 2)
        await stream.write(b"y")
        assert await stream.read() == b"y"
        assert len(net.links) > before, "it was let go of, and has come again"
        assert idle.linked.is_set()


async def test_a_session_that_does_not_come_back_in_time_is_over() -> None:
    clock = FakeClock()
    async with asyncio.timeout(120), world("memory", clock=clock) as net:
        async with net.echoing():
            stream = await net.relay.open(opening())
            await stream.write(b"x")
            assert await stream.read() == b"x"
        await clock.advance(RESUME_S - 1)
        await stream.write(b"it may still come back")
        await clock.advance(2)
        with pytest.raises(Unavailable, match="not made again in time"):
            await stream.read()
        with pytest.raises(Unavailable, match="not connected"):
            await net.relay.open(opening())
