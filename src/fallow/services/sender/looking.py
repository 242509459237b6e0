"""Looking at the chain again and again; what is in the way is told when it is new."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

from fallow.domain.errors import FallowError
from fallow.ports.clock import Clock
from fallow.ports.mishaps import steadily
from fallow.ports.tasks import background

Look = Callable[[], Awaitable[object]]

_log = logging.getLogger(__name__)


@asynccontextmanager
async def looking(place: str, look: Look, clock: Clock, *, every_s: float, not_done: str) -> AsyncIterator[None]:
    """Look every so many seconds while the context is open. Where that is refused the log says why it is `not_done`."""
    async with background(steadily(place, partial(_look_for_ever, look, clock, every_s, not_done), clock)):
        yield


async def _look_for_ever(look: Look, clock: Clock, every_s: float, not_done: str) -> None:
    said = ""
    while True:
        try:
            await look()
            said = ""
        except FallowError as error:
            if str(error) != said:
                _log.warning("%s for now: %s", not_done, error)
            said = str(error)
        await clock.sleep(every_s)
