"""Telling everybody what happens (`fallow.domain.happenings`): nobody has to hear it, and nothing waits for it."""

from __future__ import annotations

from contextlib import suppress

import msgspec

from fallow.domain.calls.processes import HAPPENINGS
from fallow.domain.errors import Unavailable
from fallow.domain.happenings import Happenings
from fallow.ports.bus import Bus


async def show(bus: Bus, happened: Happenings | None) -> None:
    """Tell it to whoever looks on, if it is anything and the bus is there."""
    if happened is not None:
        with suppress(Unavailable):
            await bus.publish(HAPPENINGS, msgspec.json.encode(happened))
