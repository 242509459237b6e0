"""What workers do beside leases: they serve streams, tell the network's side of their vertical, and answer it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Final

from fallow.domain import calls
from fallow.domain.errors import FallowError, NotFound, TooMuch, Unavailable
from fallow.domain.streams import Service, StreamTicket
from fallow.domain.wire.multiplex import SERVICE_STREAMS_MAX
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.mishaps import steadily
from fallow.ports.rpc import serve
from fallow.ports.streams import Stream
from fallow.ports.vertical.worker import HandBack, Lent, Overview, Worker

TELL_S: Final = 10.0
AGAIN_S: Final = 1.0
QUEUE: Final = "agent"


class Services:
    """Those of all workers of the node that is called `node` (hex)."""

    def __init__(self, workers: Mapping[str, Worker], node: str) -> None:
        self._workers = workers
        self._node = node
        self._streams = 0

    async def serve(self, stream: Stream, want: Service, ticket: StreamTicket) -> None:
        """Serve a stream whose ticket was checked.

        Raises:
            NotFound: there is no such vertical here (`stream.no_service`).
            TooMuch: too many streams of that kind are open (`rate.streams`).
            FallowError: as `Worker.serve`.
        """
        worker = self._workers.get(want.vertical)
        if worker is None:
            raise NotFound("stream.no_service", f"This machine serves nothing of {want.vertical}.")
        with self._counted():
            await worker.serve(stream, want.request, ticket.account)

    async def run(self, bus: Bus, clock: Clock) -> None:
        """Tell and answer until cancelled."""
        async with asyncio.TaskGroup() as group:
            for name, worker in self._workers.items():
                group.create_task(steadily("agent.tell", partial(self._tell, name, worker, bus, clock), clock))
                group.create_task(self._answer(name, worker, bus, clock))

    async def lent(self) -> dict[str, Lent]:
        """How it goes with what the owner lends, by vertical."""
        found = {name: await worker.lent() for name, worker in self._workers.items()}
        return {name: lent for name, lent in found.items() if lent is not None}

    async def overviews(self) -> dict[str, Overview]:
        """All that there is to know of what the owner lends, by vertical."""
        found = {name: await worker.overview() for name, worker in self._workers.items()}
        return {name: one for name, one in found.items() if one is not None}

    async def hand_back(self, vertical: str) -> HandBack:
        """Hand back what the owner lends to a vertical. Raises as `Worker.hand_back`."""
        worker = self._workers.get(vertical)
        if worker is None:
            raise NotFound("agent.not_lent", f"Nothing here is lent to {vertical[:80]!r}.")
        return await worker.hand_back()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        if self._streams >= SERVICE_STREAMS_MAX:
            raise TooMuch("rate.streams", f"{SERVICE_STREAMS_MAX} streams are served by this node.", "Try another one.")
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1

    async def _tell(self, name: str, worker: Worker, bus: Bus, clock: Clock) -> None:
        subject = calls.verticals.vertical_told(self._node, name)
        while True:
            with suppress(FallowError):  # the next one is as good
                if told := await worker.tell():
                    await bus.publish(subject, told)
            await clock.sleep(TELL_S)

    async def _answer(self, name: str, worker: Worker, bus: Bus, clock: Clock) -> None:
        subject = calls.verticals.vertical_question(self._node, name)
        while True:
            with suppress(Unavailable):
                async with serve(bus, subject, bytes, worker.answer, queue=QUEUE):
                    await asyncio.Event().wait()
            await clock.sleep(AGAIN_S)
