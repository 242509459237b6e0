"""Answers roll calls: works for a second with what is free, and signs what it did. See `fallow.domain.rollcall`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

from fallow.agent.identity import NodeKey
from fallow.agent.leases import Decline, Leases, Roll
from fallow.domain import calls
from fallow.domain.errors import Conflict, FallowError, NotAllowed, NotFound, Unavailable
from fallow.domain.rollcall import Answer
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.rpc import serve
from fallow.ports.vertical.capacity import Effort, Exercise
from fallow.ports.vertical.worker import Worker

RETRY_S = 1.0
QUEUE = "agent"

_log = logging.getLogger(__name__)


class _Done(NamedTuple):
    call: str
    effort: Effort


class Rolls:
    """One call at a time, the last one of which can be shown. `closed` says why nothing is taken now, if so."""

    def __init__(
        self, leases: Leases, workers: Mapping[str, Worker], *, net: str, key: NodeKey, closed: Callable[[], str]
    ) -> None:
        self._leases = leases
        self._workers = workers
        self._net = net
        self._key = key
        self._closed = closed
        self._done: _Done | None = None

    async def run(self, bus: Bus, clock: Clock) -> None:
        """Answer until cancelled."""
        node = self._key.text
        while True:
            with suppress(Unavailable):
                async with (
                    serve(bus, calls.checks.roll_calls(node), calls.checks.RollCall, self.answer, queue=QUEUE),
                    serve(bus, calls.checks.roll_shows(node), calls.checks.RollShow, self.show, queue=QUEUE),
                ):
                    await asyncio.Event().wait()
            await clock.sleep(RETRY_S)

    async def answer(self, request: calls.checks.RollCall) -> calls.checks.RollAnswer:
        """Work, and say what was done.

        Raises:
            NotAllowed: the node declines, with the reason as code.
            Conflict: it was ended for something more important, with the reason as code.
            Unavailable: this machine cannot do it.
        """
        worker = self._workers.get(request.vertical)
        closed = "agent.no_vertical" if worker is None else self._closed()
        roll = self._leases.begin_roll(request.cpu_milli, closed)
        if worker is None or isinstance(roll, Decline):
            code = roll.reason if isinstance(roll, Decline) else closed
            raise NotAllowed(code, "This node does not answer a roll call now.")
        try:
            effort = await self._work(worker, request, roll)
        finally:
            if self._leases.roll is roll:
                self._leases.end_roll()
        self._done = _Done(request.call, effort)
        answer = Answer(
            net=self._net,
            call=bytes.fromhex(request.call),
            cpu_milli=request.cpu_milli,
            units=effort.units,
            commitment=effort.commitment,
        )
        return calls.checks.RollAnswer(sealed=answer.seal(self._key.sign))

    async def show(self, request: calls.checks.RollShow) -> calls.checks.RollShown:
        """Show some of the steps of the last call.

        Raises:
            NotFound: it was another one.
        """
        done = self._done
        if done is None or done.call != request.call:
            raise NotFound("agent.no_such_roll", "This node did not answer that roll call last.")
        return calls.checks.RollShown(shown=await asyncio.to_thread(done.effort.show, request.wanted))

    async def _work(self, worker: Worker, request: calls.checks.RollCall, roll: Roll) -> Effort:
        challenge = bytes.fromhex(request.call)
        exercise = Exercise(challenge, self._key.node, request.cpu_milli, request.work_ms, roll.cancel)
        try:
            return await worker.exert(exercise)
        except Exception as error:
            if roll.reason:
                raise Conflict(roll.reason, "The roll call was ended: the machine was needed.") from error
            if isinstance(error, FallowError):
                raise
            # A plugin's mistake must not take down the leases.
            _log.exception("the worker failed at a roll call")
            raise Unavailable("node.worker_failed", "The roll call could not be answered.") from error
