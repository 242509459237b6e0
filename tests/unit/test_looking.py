"""Who looks again and again tells once what is in the way, again when it is something else, and goes on."""

from __future__ import annotations

import asyncio

import pytest

from fallow.domain.errors import Conflict, FallowError, Unavailable
from fallow.services.sender.looking import looking
from tests.instant_chain import SwiftClock


async def test_what_is_in_the_way_is_told_when_it_is_new(caplog: pytest.LogCaptureFixture) -> None:
    silent, busy = Unavailable("chain.silent", "The node is silent."), Conflict("chain.busy", "Another one sends.")
    answers: list[FallowError | None] = [silent, silent, busy, None, silent]
    clock, over = SwiftClock(), asyncio.Event()
    began_ms = clock.ms

    async def look() -> None:
        if not answers:
            over.set()
            return
        if (error := answers.pop(0)) is not None:
            raise error

    async with looking("test.place", look, clock, every_s=7, not_done="nothing is done"):
        await over.wait()
    told = [record.getMessage() for record in caplog.records]
    assert [message.split(": ")[1].split(".")[0] for message in told] == [
        "The node is silent",
        "Another one sends",
        "The node is silent",
    ]
    assert all(message.startswith("nothing is done for now: ") for message in told)
    assert (clock.ms - began_ms) % 7_000 == 0
    assert clock.ms - began_ms >= 35_000
