"""How a process follows what operators say of prices: it asks where that is kept, every few seconds."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, Protocol

from fallow.domain.errors import FallowError
from fallow.domain.words import WordT
from fallow.ports.clock import Clock
from fallow.ports.mishaps import steadily
from fallow.ports.tasks import background

FOLLOW_S: Final = 2.0

_log = logging.getLogger(__name__)


class Following(Protocol[WordT]):
    """What goes by words."""

    words: Sequence[WordT]


@asynccontextmanager
async def following(
    what: str, said: Following[WordT], read: Callable[[], Awaitable[Sequence[WordT]]], clock: Clock
) -> AsyncIterator[None]:
    """Have `said` go by what `read` does while the context is open. Where it cannot be read, the last words hold."""

    async def follow() -> None:
        while True:
            try:
                said.words = await read()
            except FallowError as error:
                _log.info("%s are not read anew for now: %s", what, error)
            await clock.sleep(FOLLOW_S)

    async with background(steadily(what, follow, clock)):
        yield
