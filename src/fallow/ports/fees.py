"""How a process follows what operators say of the fee: it asks where that is kept, every few seconds."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

from fallow.domain.errors import FallowError
from fallow.domain.fees import Fees, FeeWord
from fallow.ports.clock import Clock
from fallow.ports.mishaps import steadily
from fallow.ports.tasks import background

FOLLOW_S: Final = 2.0

_log = logging.getLogger(__name__)


@asynccontextmanager
async def following(fees: Fees, read: Callable[[], Awaitable[Sequence[FeeWord]]], clock: Clock) -> AsyncIterator[None]:
    """Have `fees` say what `read` does while the context is open. Where it cannot be read, what was read last holds."""

    async def follow() -> None:
        while True:
            try:
                fees.words = await read()
            except FallowError as error:
                _log.info("the fee is not read anew for now: %s", error)
            await clock.sleep(FOLLOW_S)

    async with background(steadily("fees", follow, clock)):
        yield
