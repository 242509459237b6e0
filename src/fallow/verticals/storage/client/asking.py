"""How clients of objects ask the network's side of storage."""

from __future__ import annotations

from typing import Protocol, TypeVar

from fallow.ports.bus import Bus
from fallow.ports.rpc import call as over_bus
from fallow.verticals.storage.core.calls import SUBJECT, Call

ReplyT = TypeVar("ReplyT")


class Asker(Protocol):
    """Asks. It may be asked by many at a time."""

    async def ask(self, call: Call[ReplyT]) -> ReplyT:
        """Return what a call is answered with.

        Raises:
            FallowError: as the other side raised it; Unavailable where nobody answered.
        """
        ...


class BusAsker:
    """Asks over the network's bus."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def ask(self, call: Call[ReplyT]) -> ReplyT:
        """See the Protocol."""
        answer: ReplyT = await over_bus(self._bus, f"{SUBJECT}.{call.name}", call, call.reply)
        return answer
