"""Hands the outbox's batches to the network, in order, until each has its promise."""

from __future__ import annotations

import logging
import random

import msgspec

from fallow.agent.outbox import Outbox
from fallow.agent.outbox_rows import Waiting
from fallow.domain.calls.nodes import Deliver, Delivered, ingest
from fallow.domain.errors import Conflict, FallowError, InvalidInput, NotAllowed
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.rpc import call

BACKOFF_FIRST_S = 0.2
BACKOFF_MAX_S = 20.0

ABOUT_THE_NODE = frozenset({"ingest.not_enrolled"})
"""The network does not take anything of this node now. Its records wait: they are what its owner is paid for."""

ABOUT_THE_NUMBER = frozenset({"ingest.old_boot", "ingest.out_of_order", "ingest.contradiction"})
"""The network went on without this batch, as after a home was restored from a copy, or knows another one by its number,
as after a home that was restored signed anew. Nothing in it is wrong."""

_log = logging.getLogger(__name__)


class Sender:
    """`trouble` says why the last attempt failed; empty when it did not."""

    def __init__(
        self, outbox: Outbox, bus: Bus, clock: Clock, *, node: str, network_key: bytes, jitter: random.Random
    ) -> None:
        self.trouble = ""
        self._outbox = outbox
        self._bus = bus
        self._clock = clock
        self._subject = ingest(node)
        self._network_key = network_key
        self._jitter = jitter

    async def run(self) -> None:
        """Send until cancelled."""
        failures = 0
        while True:
            try:
                waiting = await self._outbox.next()
                if waiting is None:
                    await self._outbox.changed.wait()
                    continue
                await self._send(waiting)
            except FallowError as error:
                self._note(str(error))
                await self._clock.sleep(self._backoff_s(failures))
                failures += 1
            else:
                self._note("")
                failures = 0

    async def _send(self, waiting: Waiting) -> None:
        """Deliver one batch, or do what its refusal asks for. Raises what may be tried again."""
        try:
            answer = await self._ask(waiting)
        except (NotAllowed, InvalidInput, Conflict) as error:
            await self._refused(waiting, error)
        else:
            await self._outbox.promised(waiting, answer.promise, self._network_key)

    async def _refused(self, waiting: Waiting, error: FallowError) -> None:
        """Set aside what is wrong for good; but what is wrong is not always the batch."""
        if error.code in ABOUT_THE_NODE:
            raise error
        if error.code in ABOUT_THE_NUMBER:
            _log.warning("batch %d/%d gets another number: %s", waiting.boot, waiting.seq, error)
            await self._outbox.renumber(waiting)
        else:
            _log.error("batch %d/%d set aside: %s", waiting.boot, waiting.seq, error)
            await self._outbox.set_aside(waiting, str(error))

    async def _ask(self, waiting: Waiting) -> Delivered:
        request = Deliver(batch=waiting.data, openings=waiting.openings)
        try:
            return await call(self._bus, self._subject, request, Delivered)
        except msgspec.MsgspecError as error:
            raise FallowError("outbox.answer", f"The network's answer makes no sense: {error}.") from error

    def _backoff_s(self, failures: int) -> float:
        """Twice as long after each failure, up to a bound; half of it by chance, so that nodes do not come at once."""
        longest = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(failures, 16))
        return longest * (0.5 + self._jitter.random() / 2)

    def _note(self, trouble: str) -> None:
        if trouble and trouble != self.trouble:
            _log.warning("records wait: %s", trouble)
        self.trouble = trouble
