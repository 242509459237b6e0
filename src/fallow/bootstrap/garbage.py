"""Python's search for cycles, kept short: a full one looks at every object, and nobody is answered meanwhile.

With 1,200 nodes and 6,000 jobs the core holds some 100,000 objects that are looked at: 80 milliseconds each time,
several times in a benchmark of six seconds, to find 20 objects that only cycles held. What has outlived a second is
likely to stay. It is set aside, so that the search looks at what is young; what ends later is freed by its reference
count as ever, and what cycles keep until the next full search, an hour later at most.

A gateway holds as much before its first reader comes (routes, schemas, files): 100 milliseconds, for all who wait.

Python searches by itself, too, whenever much was made: while 430,000 nodes are loaded, again and again, up to half a
second each time. That is off, and what comes in such numbers is set aside without a look.
"""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fallow.ports.clock import Clock
from fallow.ports.tasks import background

SET_ASIDE_EVERY_S = 1.0
FULL_EVERY_MS = 3_600_000
MUCH = 100_000
"""Objects made within a second, and still there: such are data, which no cycle holds."""


@asynccontextmanager
async def short_collections(clock: Clock) -> AsyncIterator[None]:
    """Keep them short in this process while the context is open."""
    gc.disable()
    async with background(_set_aside(clock)):
        try:
            yield
        finally:
            gc.unfreeze()
            gc.enable()


async def _set_aside(clock: Clock) -> None:
    searched = clock.monotonic_ms()
    while True:
        await clock.sleep(SET_ASIDE_EVERY_S)
        if clock.monotonic_ms() - searched >= FULL_EVERY_MS:
            gc.unfreeze()
            gc.collect()
            searched = clock.monotonic_ms()
        elif gc.get_count()[0] < MUCH:
            gc.collect(1)  # the young: what is garbage already need not wait for the hour
        gc.freeze()
