"""Asks nodes to show what they have free, and checks what they answer."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence

import msgspec

from fallow.domain import calls, rollcall
from fallow.domain.decoding import UNREADABLE
from fallow.domain.draws import Seed
from fallow.domain.errors import FallowError, InvalidInput
from fallow.domain.rollcall import FORGED, SHORT, WORK_MS, Answer, Member, Said
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.rpc import call
from fallow.ports.vertical.capacity import Capacity, Claim

LATE_MS = 5_000
"""So much longer than the work takes an answer is waited for. The time counts: who is late is slow."""

SHOW_S = 5.0
UNITS_A_CORE_MAX = 1_000_000
"""No machine does so many steps in a call: a bound for what is computed with a node's word."""

NOTHING = "roll.nothing"
MALFORMED = "roll.malformed"
_CODE = re.compile("[a-z_.]{1,60}")


class Asker:
    """Asks with the capacity check of one vertical."""

    def __init__(self, *, net: str, vertical: str, capacity: Capacity, bus: Bus, clock: Clock) -> None:
        self._net = net
        self._vertical = vertical
        self._capacity = capacity
        self._bus = bus
        self._clock = clock

    async def ask(
        self, seed: Seed, challenge: bytes, members: Sequence[Member], alone: Mapping[bytes, int]
    ) -> tuple[Said, ...]:
        """Have all of them work at once, then have each show some of its steps. `alone` are their rates alone."""
        said = await asyncio.gather(*(self._one(challenge, one, alone.get(one.node)) for one in members))
        return tuple(await asyncio.gather(*(self._checked(seed, challenge, one) for one in said)))

    async def _one(self, challenge: bytes, member: Member, alone: int | None) -> Said:
        """What a node answers, timed by this side's clock: a node that says it took less gains nothing."""
        request = calls.checks.RollCall(
            call=challenge.hex(), vertical=self._vertical, cpu_milli=member.cpu_milli, work_ms=WORK_MS
        )
        said = Said(node=member.node, cpu_milli=member.cpu_milli, alone=alone)
        begun_ms = self._clock.monotonic_ms()
        try:
            reply = await call(
                self._bus,
                calls.checks.roll_calls(member.node.hex()),
                request,
                calls.checks.RollAnswer,
                timeout_s=(WORK_MS + LATE_MS) / 1000,
            )
            elapsed_ms = self._clock.monotonic_ms() - begun_ms
            answer = self._read(reply.sealed, challenge, member)
        except FallowError as error:
            return msgspec.structs.replace(said, reason=_code(error))
        except UNREADABLE:
            return msgspec.structs.replace(said, reason=MALFORMED)
        said = msgspec.structs.replace(said, units=answer.units, elapsed_ms=elapsed_ms, answer=reply.sealed)
        short = alone is not None and rollcall.is_short(said.rate, alone)
        reason = NOTHING if not answer.units else SHORT if short else ""
        return msgspec.structs.replace(said, reason=reason)

    def _read(self, sealed: bytes, challenge: bytes, member: Member) -> Answer:
        """Open an answer, signed by this node, to this call.

        Raises:
            InvalidInput, NotAllowed: it is none.
        """
        answer = Answer.open(sealed, member.node)
        most = UNITS_A_CORE_MAX * max(1, member.cpu_milli // 1000)
        if (answer.net, answer.call, answer.cpu_milli) != (self._net, challenge, member.cpu_milli):
            raise InvalidInput("roll.other", "The answer is to another roll call.")
        if answer.units > most:
            raise InvalidInput(MALFORMED, "The answer claims more than any machine can do.")
        return answer

    async def _checked(self, seed: Seed, challenge: bytes, said: Said) -> Said:
        """Have a node show drawn steps of what it signed."""
        if not said.answered:
            return said
        node = said.node
        wanted = self._capacity.wanted(said.units, rollcall.chance(seed, challenge, node))
        try:
            request = calls.checks.RollShow(call=challenge.hex(), wanted=wanted)
            reply = await call(
                self._bus, calls.checks.roll_shows(node.hex()), request, calls.checks.RollShown, timeout_s=SHOW_S
            )
        except FallowError as error:
            return msgspec.structs.replace(said, reason=_code(error))
        except UNREADABLE:
            return msgspec.structs.replace(said, reason=MALFORMED)
        answer = Answer.open(said.answer, node)
        claim = Claim(challenge, node, answer.units, answer.commitment)
        holds = await asyncio.to_thread(self._capacity.holds, claim, wanted, reply.shown)
        return said if holds else msgspec.structs.replace(said, reason=FORGED)


def _code(error: FallowError) -> str:
    """The code of an error, which may be a node's: what is no code is not kept."""
    return error.code if _CODE.fullmatch(error.code) else MALFORMED
