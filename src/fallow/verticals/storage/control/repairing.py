"""Repairs segments: reads as many pieces as it takes, makes those that are lost anew, and brings them to other nodes.

Each step leaves the segment as it was, or better. Nodes are written down as garbage before they get a piece, so that it
does not stay if nobody comes to count on it; the segment's row changes in one transaction, and only if it is as it was
read. The nodes that lost a piece, or have one too many, are asked to delete theirs from then on.

The network has no key to what it repairs. That sources are what was stored shows in two pieces more than it takes: they
are computed from the others, and what does not agree is left out and made anew as well. What sources gave counts as
answers to audits do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, NamedTuple

from fallow.domain.errors import Conflict, FallowError
from fallow.ports.clock import Clock
from fallow.ports.database import Database, Transaction
from fallow.ports.tasks import within
from fallow.verticals.storage.client.pieces import Mover, put_piece
from fallow.verticals.storage.control import repair_rows
from fallow.verticals.storage.control.choosing import draw, no_more
from fallow.verticals.storage.control.health import Whereabouts
from fallow.verticals.storage.control.limits import REPAIRS, Signer, Wanted
from fallow.verticals.storage.control.nodes import Lender, Nodes
from fallow.verticals.storage.control.queues import REPAIR, SHORT, Queue, note_if_short
from fallow.verticals.storage.control.repair_rows import Damaged, Named
from fallow.verticals.storage.control.verdicts import Also, nothing_else
from fallow.verticals.storage.control.whole_audits import Given, WholeAudits
from fallow.verticals.storage.control.whole_pieces import differing, hash_of, made, parts_of, read_whole
from fallow.verticals.storage.core.calls.segments import Place
from fallow.verticals.storage.core.orders import Action

SEGMENTS_AT_ONCE: Final = 2
"""In a process, and one that is filled up: each takes up to 64 MiB for what is read and 118 MiB for what is made, at 29
of 80; where two sources are altered all are read: 184 MiB."""
MORE: Final = 2
"""Pieces that are read beyond what it takes, if there are: they show one that is altered."""
ROUNDS: Final = 3
"""Times that other nodes are drawn where some did not take their piece."""
READ_S: Final = 300.0
BRING_S: Final = 300.0
REPAIR_S: Final = 2_700.0
"""All of it; then others may take the segment."""
LOOK_S: Final = 10.0
REST_TIMES: Final = 4
"""Who fills up what began short rests so many times as long as a segment took him: nothing waits for it."""

_log = logging.getLogger(__name__)

WHEN: Final = "for a repair"


class Sources(NamedTuple):
    """Whole pieces that agree, by number, and the numbers of those that do not, and of those that are lost by now."""

    pieces: Mapping[int, memoryview]
    altered: Collection[int]
    lost: Collection[int]


class Repairs:
    """Takes segments from the queues.

    `mover` reads; `bringer` makes who brings the pieces of a number, with a key of its own: see `adopting`.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        database: Database,
        nodes: Nodes,
        signer: Signer,
        audits: WholeAudits,
        mover: Mover,
        bringer: Callable[[int], Mover],
        uniform: Callable[[], float],
    ) -> None:
        self._clock = clock
        self._database = database
        self._nodes = nodes
        self._signer = signer
        self._audits = audits
        self._mover = mover
        self._bringer = bringer
        self._uniform = uniform

    async def introduce(self) -> None:
        """Have audits take what was claimed with this key before pieces of each number had one of their own."""
        async with self._database.transaction() as tx:
            await repair_rows.introduce(tx, self._mover.public)

    async def repair(self) -> None:
        """Repair for ever."""
        await self.introduce()
        async with asyncio.TaskGroup() as group:
            for _ in range(SEGMENTS_AT_ONCE):
                group.create_task(self._keep_repairing())
            group.create_task(self._keep_filling())

    async def repair_next(self) -> bool:
        """Repair the segment that is likeliest to be lost; whether there was one."""
        return await self._next(REPAIR)

    async def fill_next(self) -> bool:
        """Make what a segment lacks that began short, unless one waits for repair; whether there was one."""
        return await self._next(SHORT)

    async def read_piece(self, segment: Damaged, number: int, lender: Lender) -> memoryview:
        """Read a whole piece from its node; that it is what was stored, only others can show.

        Raises:
            FallowError: the node does not give it.
        """
        (place,) = await self._sources(segment, [number], [lender])
        return await self._read_one(place, segment.layout.piece_bytes)

    async def move_piece(self, segment: Damaged, number: int, piece: memoryview, also: Also) -> None:
        """Bring a piece to another node and have the segment count on that; `also` is done in the same transaction.

        Raises:
            Unavailable: no other node takes it (`storage.too_few_nodes`).
            Conflict: the segment has changed meanwhile (`storage.segment_changed`).
        """
        moved, named = await self._bring(segment, [number], {number: piece})
        if not moved:
            raise no_more()
        await self._move(segment, moved, named, also)

    async def _next(self, queue: Queue) -> bool:
        async with self._database.transaction() as tx:
            segment = await queue.take(tx, self._clock.now_ms())
        if segment is None:
            return False
        try:
            done = await within(self._clock, REPAIR_S, self._repair(segment, queue))
            reason = "" if done else no_more().message
        except FallowError as error:
            done, reason = False, str(error)
        async with self._database.transaction() as tx:
            if done:
                await queue.done(tx, segment)
            else:
                level = logging.WARNING if queue is REPAIR else logging.INFO
                _log.log(level, "segment %s stays in %s: %s", segment.hex(), queue.table, reason)
                await queue.fail(tx, segment, reason, self._clock.now_ms())
        return True

    async def _repair(self, id_: bytes, queue: Queue) -> bool:
        """Whether the segment need not wait in this queue any more."""
        async with self._database.transaction() as tx:
            segment = await repair_rows.look_up(tx, id_)
            if segment is None:
                return True
            lenders = await self._nodes.of(tx, segment.nodes)
            left = await repair_rows.left(tx, id_)
        known = Whereabouts(self._nodes.there())
        if queue.suffices(segment, segment.nodes, known):
            return True
        if not self._drawn(segment, _lacking(segment, known, ()), left, {}):
            raise no_more()  # what cannot be brought anywhere is not read, either
        sources = await self._read(segment, lenders)
        segment = _without(segment, sources.lost)
        lacking = _lacking(segment, known, sources.altered)
        if not lacking:
            return True
        moved, named = await self._bring(segment, lacking, sources.pieces)
        if not moved:
            raise no_more()
        nodes = [moved.get(number, alias) for number, alias in enumerate(segment.nodes)]
        known = Whereabouts(self._nodes.there())
        healthy = known.healthy(nodes, segment.countries)

        async def note(tx: Transaction) -> None:
            await note_if_short(tx, segment.id, segment.code, healthy, self._clock.now_ms())

        await self._move(segment, moved, named, note)
        _log.info("segment %s: %d pieces made anew, %d count", id_.hex(), len(moved), healthy)
        return queue.suffices(segment, nodes, known)

    async def _read(self, segment: Damaged, lenders: Mapping[int, Lender]) -> Sources:
        """Read pieces until they suffice, and show which of them are what was stored.

        Raises:
            Conflict: there are not enough (`storage.pieces`), or not enough to tell (`storage.altered`).
        """
        left, pieces, refused = self._readable(segment, lenders), dict[int, memoryview](), dict[int, FallowError]()

        async def read(numbers: Sequence[int]) -> None:
            for number, given in (await self._read_some(segment, numbers, lenders)).items():
                if isinstance(given, FallowError):
                    refused[number] = given
                else:
                    pieces[number] = given

        while left and len(pieces) < segment.code.needed + MORE:
            wanted = segment.code.needed + MORE - len(pieces)
            now, left = left[:wanted], left[wanted:]
            await read(now)
        if len(pieces) < segment.code.needed:
            await self._audits.book(segment, lenders, WHEN, given=refused)
            message = f"Of {segment.code.needed} pieces that it takes, {len(pieces)} can be read."
            raise Conflict("storage.pieces", message, "It is tried again: nodes may come back.")
        try:
            wrong = await differing(segment, pieces)
        except Conflict:
            await read(left)
            wrong = await differing(segment, pieces)
        for number in wrong:
            node = lenders[segment.nodes[number]].node
            _log.warning("node %s gave something else for its piece of %s", node.hex(), segment.id.hex())
        sound = {number: piece for number, piece in pieces.items() if number not in wrong}
        given: dict[int, Given] = {**refused, **{number: pieces[number] for number in wrong}}
        shown = sound if len(pieces) > segment.code.needed else ()  # of just as many as it takes nothing shows
        return Sources(sound, wrong, await self._audits.book(segment, lenders, WHEN, given=given, sound=shown))

    def _readable(self, segment: Damaged, lenders: Mapping[int, Lender]) -> list[int]:
        """Numbers of pieces that can be read: on nodes that are well first, then on those that may be back."""
        held = [number for number, alias in enumerate(segment.nodes) if alias in lenders]
        return sorted(held, key=lambda number: not self._nodes.is_well(lenders[segment.nodes[number]]))

    async def _read_some(
        self, segment: Damaged, numbers: Sequence[int], lenders: Mapping[int, Lender]
    ) -> dict[int, Given]:
        nodes = [lenders[segment.nodes[number]] for number in numbers]
        places = await self._sources(segment, numbers, nodes)
        async with asyncio.TaskGroup() as group:
            reading = [group.create_task(self._try_to_read(place, segment.layout.piece_bytes)) for place in places]
        return {number: task.result() for number, task in zip(numbers, reading, strict=True)}

    async def _read_one(self, place: Place, size: int) -> memoryview:
        return await within(self._clock, READ_S, read_whole(self._mover, place, size))

    async def _try_to_read(self, place: Place, size: int) -> Given:
        try:
            return await self._read_one(place, size)
        except FallowError as error:
            _log.info("node %s does not give its piece: %s", place.node.hex(), error)
            return error

    async def _bring(
        self, segment: Damaged, lacking: Sequence[int], pieces: Mapping[int, memoryview]
    ) -> tuple[dict[int, int], list[Named]]:
        """Make pieces anew and bring them to nodes; returns the aliases by number, and all nodes that were named."""
        moved: dict[int, int] = {}
        named: list[Named] = []
        for _ in range(ROUNDS):
            still = [number for number in lacking if number not in moved]
            if not still:
                break
            drawn, these = await self._name(segment, lacking, moved)
            if not drawn:
                break
            named.append(these)
            moved.update(await self._bring_some(segment, still[: len(drawn)], drawn, pieces))
        return moved, named

    async def _name(
        self, segment: Damaged, lacking: Collection[int], moved: Mapping[int, int]
    ) -> tuple[list[Lender], Named]:
        """Draw nodes for the pieces that still lack, and write them down before anybody else draws for this segment."""
        async with self._database.transaction() as tx:
            left = await repair_rows.hold(tx, segment)
            drawn = self._drawn(segment, lacking, left, moved)[: len(lacking) - len(moved)]
            aliases = [one.alias for one in drawn]
            return drawn, await repair_rows.name(tx, segment, aliases, self._clock.now_ms())

    def _drawn(
        self, segment: Damaged, lacking: Collection[int], left: Collection[int], moved: Mapping[int, int]
    ) -> list[Lender]:
        """Nodes for the pieces that lack: none that has, had or may get one, and of other owners on other networks."""
        stay = [alias for number, alias in enumerate(segment.nodes) if number not in lacking]
        never = {*segment.nodes, *left}
        fit = [
            one
            for one in self._nodes.candidates(without=[*stay, *moved.values()])
            if one.alias not in never
            and one.room_bytes >= segment.layout.piece_bytes
            and (not segment.countries or one.country in segment.countries)
        ]
        return draw(fit, len(lacking), self._uniform)

    async def _bring_some(
        self, segment: Damaged, numbers: Sequence[int], nodes: Sequence[Lender], pieces: Mapping[int, memoryview]
    ) -> dict[int, int]:
        size = segment.layout.piece_bytes
        for one in nodes:  # others are not named for the same room before it tells
            one.room_bytes -= size
        fresh = await asyncio.to_thread(made, segment, numbers, pieces)
        places = [
            place
            for number, node in zip(numbers, nodes, strict=True)
            for place in await self._places(segment, [number], [node], "repair_put", self._bringer(number).public)
        ]
        async with asyncio.TaskGroup() as group:
            putting = [group.create_task(self._bring_one(place, fresh[place.number])) for place in places]
        return {number: one.alias for number, one, task in zip(numbers, nodes, putting, strict=True) if task.result()}

    async def _bring_one(self, place: Place, piece: memoryview) -> bool:
        try:
            hashed = await asyncio.to_thread(hash_of, piece)
            work = put_piece(self._bringer(place.number), place, len(piece), parts_of(piece), lambda: hashed)
            await within(self._clock, BRING_S, work)
        except FallowError as error:
            _log.info("node %s does not take a piece: %s", place.node.hex(), error)
            return False
        return True

    async def _move(
        self, segment: Damaged, moved: Mapping[int, int], named: Sequence[Named], also: Also = nothing_else
    ) -> None:
        async with self._database.transaction() as tx:
            await repair_rows.move(tx, segment, moved, named, self._clock.now_ms())
            await also(tx)

    async def _sources(self, segment: Damaged, numbers: Sequence[int], nodes: Sequence[Lender]) -> list[Place]:
        return await self._places(segment, numbers, nodes, "repair_get", self._mover.public)

    async def _places(
        self, segment: Damaged, numbers: Sequence[int], nodes: Sequence[Lender], action: Action, client: bytes
    ) -> list[Place]:
        limits = [Wanted(one.node, segment.id, segment.layout.piece_bytes) for one in nodes]
        signed = await self._signer.signed(limits, action, client, REPAIRS, self._clock.now_ms())
        return [
            Place(number=number, node=one.node, limit=both.limit, ticket=both.ticket)
            for number, one, both in zip(numbers, nodes, signed, strict=True)
        ]

    async def _keep_repairing(self) -> None:
        while True:
            if not await self.repair_next():
                await self._clock.sleep(LOOK_S)

    async def _keep_filling(self) -> None:
        while True:
            began_ms = self._clock.monotonic_ms()
            found = await self.fill_next()
            took_s = (self._clock.monotonic_ms() - began_ms) / 1000
            await self._clock.sleep(REST_TIMES * took_s if found else LOOK_S)


def _without(segment: Damaged, lost: Collection[int]) -> Damaged:
    """A segment as it is when pieces by these numbers count as lost."""
    return segment._replace(nodes=[0 if number in lost else alias for number, alias in enumerate(segment.nodes)])


def _lacking(segment: Damaged, known: Whereabouts, wrong: Collection[int]) -> list[int]:
    """Numbers of pieces that are to be made anew: those that are lost first, then those that do not count."""
    stay = set(known.counted(segment.nodes, segment.countries)).difference(wrong)
    lacking = [number for number in range(len(segment.nodes)) if number not in stay]
    return sorted(lacking, key=lambda number: segment.nodes[number] in known and number not in wrong)
