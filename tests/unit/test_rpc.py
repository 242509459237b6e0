"""Typed requests over the bus: what is too large for it is an answer, too."""

from __future__ import annotations

import pytest

from fallow.adapters.memory.bus import MemoryHub
from fallow.domain.errors import TooMuch
from fallow.ports.bus import MESSAGE_BYTES_MAX
from fallow.ports.rpc import call, serve


async def test_an_answer_that_is_too_large_ends_no_service() -> None:
    hub = MemoryHub()

    async def repeat(count: int) -> str:
        return "x" * count

    async with serve(hub.connect(), "test.repeat", int, repeat, queue="test"):
        with pytest.raises(TooMuch) as caught:
            await call(hub.connect(), "test.repeat", MESSAGE_BYTES_MAX, str)
        assert caught.value.code == "rpc.reply_too_large"
        assert await call(hub.connect(), "test.repeat", 5, str) == "xxxxx"
