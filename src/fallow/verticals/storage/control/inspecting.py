"""Checks objects against segments, and these against the pieces that nodes have: both ways, where an operator asks.

What is missing is only reported: audits and repair see to pieces by themselves. Where the operator asked for that, what
segments name comes back out of its node's trash, and what no segment knows is put there, to be kept for seven days.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from fallow.domain.decoding import UNREADABLE
from fallow.domain.errors import FallowError, Unavailable
from fallow.ports.clock import Clock
from fallow.ports.database import Database, Row
from fallow.ports.registry_store import ActionLog
from fallow.ports.vertical.control import Ask
from fallow.verticals.storage.control.inspection_rows import GONE_MS, InspectionRows
from fallow.verticals.storage.control.known_pieces import KnownPieces, aliases_of
from fallow.verticals.storage.control.limits import Secrets
from fallow.verticals.storage.control.nodes import Nodes
from fallow.verticals.storage.control.object_bytes import ObjectBytes
from fallow.verticals.storage.control.questioning import printable
from fallow.verticals.storage.core.orders import PieceId
from fallow.verticals.storage.core.questions import PIECES_AT_ONCE, Held, Page, Question, TakeBack, Trash
from fallow.verticals.storage.core.upkeep import SHOWN_MAX, InspectedNode

LOOK_S: Final = 2.0
PAUSE_S: Final = 0.05
"""Between questions, and between pages of segments: a check is in no hurry."""
YOUNG_MS: Final = 24 * 3_600_000
"""By nodes' clocks. What is younger is not looked at; that nothing live is taken for a stray does not rest on it."""
PIECES_MAX: Final = 300_000
"""Of all nodes, in memory at a time: some 40 MB. Where there are more, all segments are gone through once more."""
STRAYS_MAX: Final = 100_000
"""Of a node and a check: more pieces than so many above those that segments name there are left for the next check.
Else a node that answers with ids that it makes up would keep a check busy for ever."""
NODES_AT_ONCE: Final = 8
BEAT_MS: Final = GONE_MS // 8
OWNER_BYTES: Final = 16
_PIECES: Final = msgspec.msgpack.Decoder(list[PieceId])
_STILL: Final = "SELECT id FROM storage.segment WHERE id = ANY($1::bytea[]) AND $2 = ANY(nodes) ORDER BY id"
_log = logging.getLogger(__name__)


class Superseded(Exception):
    """Somebody else does the check by now."""


class Inspector:
    """Does the checks that are asked for."""

    def __init__(
        self,
        *,
        clock: Clock,
        database: Database,
        nodes: Nodes,
        secrets: Secrets,
        ask: Ask,
        log: ActionLog,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self.rows = InspectionRows(database, clock, log)
        self._clock = clock
        self._database = database
        self._nodes = nodes
        self._secrets = secrets
        self._ask = ask
        self._random_bytes = random_bytes

    async def run(self) -> None:
        """Do what is asked for, until cancelled."""
        while True:
            if not await self.inspect():
                await self._clock.sleep(LOOK_S)

    async def inspect(self) -> bool:
        """Do the check that is asked for; whether there was one."""
        owner = self._random_bytes(OWNER_BYTES)
        repair = await self.rows.take(owner)
        if repair is None:
            return False
        check = Check(
            self._clock, self._database, self._nodes, self._secrets, self._ask, self.rows, owner, repair=repair
        )
        try:
            await check.run()
        except* Superseded:
            _log.warning("Another process has begun the check of pieces anew")
        return True


class Check:
    """One check, from its beginning to its end."""

    def __init__(
        self,
        clock: Clock,
        database: Database,
        nodes: Nodes,
        secrets: Secrets,
        ask: Ask,
        rows: InspectionRows,
        owner: bytes,
        *,
        repair: bool,
    ) -> None:
        self._clock = clock
        self._database = database
        self._lenders = nodes
        self._secrets = secrets
        self._ask = ask
        self._rows = rows
        self._owner = owner
        self._repair = repair
        self._known = KnownPieces(database, secrets)
        self._nodes = {one.alias: one.node for one in nodes.online()}
        """Those that answer. Who does not is not asked again."""
        self._found = {alias: InspectedNode(alias=alias, node=node) for alias, node in self._nodes.items()}
        self._away: Counter[int] = Counter()
        self._segments = 0
        self._said_ms = clock.monotonic_ms()

    async def run(self) -> None:
        """Go through all objects, then through all segments, then through all pieces.

        Raises:
            Superseded: somebody else has begun it anew.
        """
        objects = ObjectBytes(self._database)
        async for _ in objects.look():
            await self._went_on()
        async for rows in self._known.stored():
            await self._look_for(rows)
            await self._went_on(len(rows))
        await self._look_through()
        nodes = [*self._found.values(), *await self._not_there()]
        await self._rows.end(self._owner, self._segments, nodes, objects.found)

    async def _went_on(self, segments: int = 0) -> None:
        self._segments += segments
        await self._say_so()
        await self._clock.sleep(PAUSE_S)

    async def _beat(self) -> None:
        """Say now and then that it goes on: a page of segments takes long where there are many nodes, or slow ones."""
        if self._clock.monotonic_ms() - self._said_ms >= BEAT_MS:
            await self._say_so()

    async def _say_so(self) -> None:
        self._said_ms = self._clock.monotonic_ms()
        if not await self._rows.goes_on(self._owner, self._segments):
            raise Superseded

    # What segments name

    async def _look_for(self, rows: Sequence[Row]) -> None:
        """Ask each node for the pieces of a page of segments that are to be there."""
        gate = asyncio.Semaphore(NODES_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for alias, segments in aliases_of(rows).items():
                if alias in self._nodes:
                    group.create_task(self._look_for_at(alias, segments, gate))
                elif alias not in self._found:
                    self._away[alias] += len(segments)

    async def _look_for_at(self, alias: int, segments: Sequence[bytes], gate: asyncio.Semaphore) -> None:
        pieces = {self._secrets.piece(segment, self._nodes[alias]): segment for segment in segments}
        async with gate:
            held = await self._pieces(alias, TakeBack([*pieces]) if self._repair else Held([*pieces]))
            await self._beat()
        if held is None:
            return
        gone = [segment for piece, segment in pieces.items() if piece not in held]
        missing = await self._still(alias, gone) if gone else []
        found = self._found[alias]
        self._note(
            alias,
            named=found.named + len(segments),
            missing=found.missing + len(missing),
            segments=(found.segments + missing)[:SHOWN_MAX],
        )

    async def _still(self, alias: int, segments: Sequence[bytes]) -> list[bytes]:
        """Those of these segments that name a node: others were dropped, or moved, since they were listed."""
        async with self._database.transaction() as tx:
            return [row["id"] for row in await tx.fetch(_STILL, segments, alias)]

    async def _not_there(self) -> list[InspectedNode]:
        async with self._database.transaction() as tx:
            away = await self._lenders.of(tx, [*self._away])
        trouble = "It was not there."
        return [
            InspectedNode(alias=alias, node=one.node, named=self._away[alias], trouble=trouble)
            for alias, one in away.items()
        ]

    # What nodes have

    async def _look_through(self) -> None:
        """Go through what nodes have, as much of it at a time as fits into memory."""
        after = dict.fromkeys(self._nodes, b"")
        while after:
            share = max(PIECES_AT_ONCE, PIECES_MAX // len(after))
            pieces = {alias: await self._listed(alias, after, share) for alias in [*after]}
            await self._judge({alias: ids for alias, ids in pieces.items() if ids})

    async def _listed(self, alias: int, after: dict[int, bytes], share: int) -> set[bytes]:
        """The next pieces that a node has had for a day; at the end it is taken out of `after`."""
        found: set[bytes] = set()
        before_ms = self._clock.now_ms() - YOUNG_MS
        while len(found) < share:
            await self._went_on()
            page = await self._pieces(alias, Page(after[alias], before_ms))
            found.update(page or ())
            if not page or max(page) <= after[alias] or self._is_too_much(alias, len(found)):
                del after[alias]
                break
            after[alias] = max(page)
        self._note(alias, here=self._found[alias].here + len(found))
        return found

    def _is_too_much(self, alias: int, listed: int) -> bool:
        found = self._found[alias]
        if found.here + listed <= found.named + STRAYS_MAX:
            return False
        self._note(alias, trouble="It has many pieces that no segment names there: the next check goes on with them.")
        return True

    async def _judge(self, pieces: Mapping[int, set[bytes]]) -> None:
        """Find out which of these are nobody's. They were listed first: see `KnownPieces`."""
        nodes = {alias: self._found[alias].node for alias in pieces}
        async for count in self._known.take_out(pieces, nodes):
            await self._went_on(count)
        left = {alias: ids for alias, ids in pieces.items() if ids}
        if not left:
            return
        unnamed = {alias: len(ids) for alias, ids in left.items()}
        async for count in self._known.take_out_spare(left, nodes):
            await self._went_on(count)
        for alias, ids in left.items():
            self._note(alias, spare=self._found[alias].spare + unnamed[alias] - len(ids))
            await self._take_strays(alias, sorted(ids))

    async def _take_strays(self, alias: int, pieces: Sequence[bytes]) -> None:
        for start in range(0, len(pieces), PIECES_AT_ONCE):
            some = list(pieces[start : start + PIECES_AT_ONCE])
            await self._went_on()
            held = await self._pieces(alias, Held(some))
            strays = [piece for piece in some if piece in (held or ())]
            if not strays:
                continue
            found = self._found[alias]
            self._note(alias, strays=found.strays + len(strays), pieces=(found.pieces + strays)[:SHOWN_MAX])
            if self._repair and await self._answer(alias, Trash(strays)) is not None:
                self._note(alias, trashed=self._found[alias].trashed + len(strays))

    # Asking

    async def _pieces(self, alias: int, question: Question) -> set[bytes] | None:
        """Ask a node for ids; None: it does not answer (any more)."""
        answer = await self._answer(alias, question)
        if answer is None:
            return None
        try:
            return set(_PIECES.decode(answer))
        except UNREADABLE as error:
            self._give_up(alias, Unavailable("storage.answer", f"Its answer makes no sense: {error}."))
            return None

    async def _answer(self, alias: int, question: Question) -> bytes | None:
        if alias not in self._nodes:
            return None
        try:
            return await self._ask(self._nodes[alias], msgspec.msgpack.encode(question))
        except FallowError as error:
            self._give_up(alias, error)
            return None

    def _give_up(self, alias: int, error: FallowError) -> None:
        del self._nodes[alias]
        self._note(alias, trouble=printable(error.message))

    def _note(self, alias: int, **changes: object) -> None:
        self._found[alias] = msgspec.structs.replace(self._found[alias], **changes)
