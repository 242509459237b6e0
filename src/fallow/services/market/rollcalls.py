"""Roll calls at work: at drawn moments nodes show what they have free, all at once. The rules are in the domain.

Only the market that leads calls. What it is in the middle of is forgotten with its process: it begins anew with the
next moment. What came of a call is kept before anybody is judged by it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from functools import partial

from fallow.domain import calls, rollcall
from fallow.domain.decisions import Decision
from fallow.domain.draws import Seed
from fallow.domain.errors import FallowError
from fallow.domain.network_facts import RollAnswered
from fallow.domain.rollcall import FORGED, SHARED, SHORT, Call, Kind, Member, Said
from fallow.domain.views.checks import RollCallView, SaidView
from fallow.ports.bus import Bus
from fallow.ports.checks import Alone, CheckStore
from fallow.ports.clock import Clock
from fallow.ports.database import Database
from fallow.ports.decisions import DecisionStore
from fallow.ports.rpc import serve
from fallow.ports.vertical.plugin import Vertical
from fallow.services.market.asking import Asker
from fallow.services.market.brain import Brain
from fallow.services.market.floor import Slot
from fallow.services.market.rollup import RESTS
from fallow.services.market.rounds import Rounds
from fallow.services.market.totals import LOOKED_AT_ONCE

QUEUE = "market"
POLL_S = 0.5
ALONE_OLD_MS = 7 * rollcall.DAY_MS
ALONE_AGAIN_MS = 60_000
"""A node that could not be measured alone is tried again after so long."""

log = logging.getLogger(__name__)


class RollCalls:
    """Calls nodes so often a day on average, with the capacity check of the first vertical that has one."""

    def __init__(
        self,
        *,
        net: str,
        calls_a_day: int,
        rounds: Rounds,
        verticals: Mapping[str, Vertical],
        bus: Bus,
        clock: Clock,
        database: Database,
        store: CheckStore,
        decisions: DecisionStore,
    ) -> None:
        self._decisions = decisions
        self._calls_a_day = calls_a_day
        self._rounds = rounds
        self._bus = bus
        self._clock = clock
        self._database = database
        self._store = store
        self._askers = [
            Asker(net=net, vertical=name, capacity=one.capacity, bus=bus, clock=clock)
            for name, one in sorted(verticals.items())
            if one.capacity is not None
        ][:1]
        self._alone: dict[bytes, Alone] = {}
        self._try_at: dict[bytes, int] = {}
        self._due: deque[bytes] = deque()
        self._measured: list[Member] = []
        self._slot = 0
        self._look_at_ms = 0

    async def run(self) -> None:
        """Call, and show what came of it, until cancelled."""
        async with serve(self._bus, calls.checks.ROLL_CALLS, calls.checks.RollCallsRef, self.shown, queue=QUEUE):
            if self._calls_a_day:
                await self._call_for_ever()
            await asyncio.Event().wait()

    async def _call_for_ever(self) -> None:
        for asker in self._askers:
            self._slot = self._clock.now_ms() // rollcall.SLOT_MS
            while True:
                try:
                    async with self._database.transaction() as tx:
                        self._alone = await self._store.alone(tx)
                    await self._for_ever(asker)
                except FallowError as error:
                    log.warning("a roll call came to nothing: %s", error)
                await self._clock.sleep(POLL_S)

    async def shown(self, request: calls.checks.RollCallsRef) -> list[RollCallView]:
        """Show roll calls, the latest first; those that convicted somebody, if no others are wanted."""
        async with self._database.transaction() as tx:
            return [_view(one) for one in await self._store.calls(tx, request.limit, found=request.found)]

    # When

    async def _for_ever(self, asker: Asker) -> None:
        while True:
            await self._clock.sleep(POLL_S)
            await self._look(asker, self._clock.now_ms())

    async def _look(self, asker: Asker, now: int) -> None:
        """Call the roll where a slot says so; else measure one node alone that was not."""
        slot = now // rollcall.SLOT_MS
        if slot > self._slot:
            self._slot = slot
            if self._clock.monotonic_ms() >= self._look_at_ms:
                await self._look_at_all(now)
            if len(self._measured) > 1 and await self._drawn(slot, len(self._measured), now):
                await self._roll(asker, slot, self._measured, now)
        elif self._due:
            due = self._due.popleft()
            self._try_at[due] = now + ALONE_AGAIN_MS
            for member in self._callable(now, [due]):
                await self._measure(asker, member)

    async def _look_at_all(self, now: int) -> None:
        """See who can be called and who is to be measured: once a slot, and of very many nodes as rarely as `RESTS`."""
        began = self._clock.monotonic_ms()
        self._due.clear()
        measured: list[Member] = []
        async for portion in self._all_callable(now):
            self._due += [member.node for member in portion if self._is_due(member.node, now)]
            measured += [member for member in portion if member.node in self._alone]
        self._measured = measured
        ended = self._clock.monotonic_ms()
        self._look_at_ms = ended + RESTS * (ended - began)

    async def _drawn(self, slot: int, members: int, now: int) -> bool:
        """Draw, and keep the draw if it hits."""
        drawn = rollcall.moment(self._seed, slot, self._calls_a_day, members, now)
        if drawn.hit:
            async with self._database.transaction() as tx:
                await self._store.add(tx, [drawn])
        return drawn.hit

    def _is_due(self, node: bytes, now: int) -> bool:
        measured = self._alone.get(node)
        return (measured is None or now - measured.at > ALONE_OLD_MS) and now >= self._try_at.get(node, 0)

    # Who

    @property
    def _seed(self) -> Seed:
        return self._rounds.brain.judging.seed

    def _callable(self, now: int, nodes: Collection[bytes]) -> list[Member]:
        """Those of these nodes that are here and have something free, by id."""
        brain = self._rounds.brain
        slots = brain.floor.slots
        found = [_member(brain, slots[node], now) for node in sorted(nodes) if node in slots]
        return [member for member in found if member is not None]

    async def _all_callable(self, now: int) -> AsyncIterator[list[Member]]:
        """Yield the same of all nodes, in portions: between two of them others get their turn."""
        floor, last = self._rounds.brain.floor, b""
        while portion := floor.behind(last, LOOKED_AT_ONCE):
            yield self._callable(now, portion)
            last = portion[-1]
            if len(portion) == LOOKED_AT_ONCE:
                await asyncio.sleep(0)

    # What

    async def _roll(self, asker: Asker, slot: int, members: Sequence[Member], now: int) -> None:
        """Call several, and those who were short again and again, until it is clear why."""
        drawn = [member.node for member in rollcall.group(self._seed, slot, members)]
        here = {member.node: member for member in self._callable(now, drawn)}  # they were looked at a while ago
        chosen = [here[node] for node in drawn if node in here]
        if len(chosen) < 2:  # noqa: PLR2004 - nobody is there to share a machine with
            return
        said = await self._ask(asker, "group", chosen, now)
        trial = rollcall.suspects(said)
        while trial.open:
            suspects = self._callable(self._clock.now_ms(), trial.suspects)
            rates = {member.node: await self._measure(asker, member) for member in suspects}
            alone = {node: rate for node, rate in rates.items() if rate is not None}
            if len(alone) < 2:  # noqa: PLR2004 - nobody is left to be together with
                return
            now = self._clock.now_ms()
            again = await self._ask(asker, "again", self._callable(now, alone), now, trial)
            trial = rollcall.tried(trial, alone, {one.node: one.rate for one in again if one.answered})

    async def _measure(self, asker: Asker, member: Member) -> int | None:
        """Call one alone, and keep how fast it is; None when it did not answer."""
        now = self._clock.now_ms()
        (said,) = await self._ask(asker, "alone", [member], now)
        if not said.answered:
            return None
        alone = self._alone[member.node] = Alone(said.rate, now)
        async with self._database.transaction() as tx:
            await self._store.put_alone(tx, member.node, alone)
        return alone.rate

    async def _ask(
        self, asker: Asker, kind: Kind, members: Sequence[Member], now: int, trial: rollcall.Trial | None = None
    ) -> tuple[Said, ...]:
        """Call, keep what came of it, and judge."""
        seed, sold = self._seed, self._sold(members)
        challenge = rollcall.challenge(seed, now, kind, members[0].node if kind == "alone" else b"")
        alone = {} if kind == "alone" else {one.node: self._alone[one.node].rate for one in members}
        said = await asker.ask(seed, challenge, members, alone)
        found = [(one.node, FORGED) for one in said if one.reason == FORGED]
        if trial is not None:
            rates = {one.node: one.rate for one in said if one.answered}
            found += [(node, SHARED) for node in rollcall.tried(trial, alone, rates).found]
        async with self._database.transaction() as tx:
            kept = Call(id=challenge, at=now, kind=kind, said=said, found=tuple(found))
            await self._store.add_call(tx, kept, now - rollcall.KEPT_MS)
            await self._decisions.add(tx, [Decision(now, _answered(kept, one)) for one in said])
        excused = {node for node, leases in self._sold(members).items() if leases != sold[node]}
        await self._rounds.ask(partial(_judge, call=kept, excused=excused))
        for node, code in found:
            log.warning("node %s is suspended: %s", node.hex(), code)
        return said

    def _sold(self, members: Sequence[Member]) -> dict[bytes, frozenset[bytes]]:
        """The leases that each of them holds: whoever got one meanwhile had something better to do."""
        slots = self._rounds.brain.floor.slots
        return {one.node: frozenset(slots[one.node].leases if one.node in slots else ()) for one in members}


def _member(brain: Brain, slot: Slot, now: int) -> Member | None:
    """A node as one that can be called, if it can: it is here, free, and not shut out."""
    place = brain.place_of(slot, now)
    cpu_milli = place.free.cpu_milli
    if not place.here or place.suspended or place.banned or cpu_milli < rollcall.CPU_MILLI_MIN:
        return None
    return Member(place.node, slot.offer.account, place.network, cpu_milli)


def _judge(brain: Brain, now: int, *, call: Call, excused: Collection[bytes]) -> None:
    """What a call shows of those who were called. An answer that is slow shows nothing by itself."""
    judging, changes = brain.judging, brain.changes
    for node, code in call.found:
        judging.convict(node, code, changes, now)
    convicted = {node for node, _ in call.found}
    for one in call.said:
        if one.reason == SHORT or one.node in convicted or one.node in excused:
            continue
        if one.reason:
            judging.rolled(one.node, here=False, changes=changes, now=now)
        elif call.kind != "alone":
            judging.rolled(one.node, here=True, changes=changes, now=now)


def _view(call: Call) -> RollCallView:
    """Show a roll call."""
    return RollCallView(
        id=call.id.hex(),
        at=call.at,
        kind=call.kind,
        said=[
            SaidView(
                node=one.node.hex(),
                cpu_milli=one.cpu_milli,
                reason=one.reason,
                units=one.units,
                elapsed_ms=one.elapsed_ms,
                per_mille=one.rate * 1000 // one.alone if one.alone and one.answered else None,
                answer=one.answer.hex(),
            )
            for one in call.said
        ],
        found={node.hex(): code for node, code in call.found},
    )


def _answered(call: Call, said: Said) -> RollAnswered:
    return RollAnswered(
        call=call.id,
        how=call.kind,
        node=said.node,
        cpu_milli=said.cpu_milli,
        reason=said.reason,
        units=said.units,
        elapsed_ms=said.elapsed_ms,
        alone=said.alone,
        answer=said.answer,
    )
