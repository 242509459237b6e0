"""After the database was put back to an earlier time: finds the pieces that repairs, or exits, moved since then.

What is restored names the nodes of before, which may be gone; the new ones have pieces that nobody knows. Which segment
such a piece is of shows in its id, and which number it has in the claim on it, which the network signed itself, with a
key for each number. So it is taken in as by a repair that need not bring anything: its node is written down as garbage,
and one transaction puts it into the segment.

Nodes are asked for the segments that need repair, or began short and were tried in vain to be filled up, and for those
that cannot be read just now: who reads does not wait until the nodes of before count as lost. They are asked whatever
they were told to delete since; what is found on them and not taken in is put back into their trash, as all garbage.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from fallow.domain.decoding import UNREADABLE
from fallow.domain.errors import Conflict, FallowError
from fallow.ports.clock import Clock
from fallow.ports.database import Database, Row
from fallow.ports.vertical.control import Ask
from fallow.verticals.storage.control import repair_rows
from fallow.verticals.storage.control.health import Whereabouts
from fallow.verticals.storage.control.limits import Secrets
from fallow.verticals.storage.control.nodes import Lender, Nodes
from fallow.verticals.storage.control.recovering import audit_again, was_restored_lately
from fallow.verticals.storage.control.repair_rows import Damaged
from fallow.verticals.storage.core.auditing import claim_by
from fallow.verticals.storage.core.orders import PieceId
from fallow.verticals.storage.core.profiles import PROFILES
from fallow.verticals.storage.core.questions import PIECES_AT_ONCE, ShowClaim, TakeBack

LOOK_S: Final = 15.0
REST_TIMES: Final = 4
"""It rests so many times as long as it took to look through all segments, and to ask all nodes for those it found."""
NODES_AT_ONCE: Final = 8
_PAGE: Final = """
SELECT s.id, s.nodes, s.profile, coalesce((SELECT true FROM storage.repair r WHERE r.segment = s.id),
    (SELECT tries > 0 FROM storage.short f WHERE f.segment = s.id), false) AS waits
FROM storage.segment s WHERE s.id > $1 ORDER BY s.id LIMIT $2
"""
"""By values and not by EXISTS, for which PostgreSQL reads all that waits, with each page."""
_PIECES: Final = msgspec.msgpack.Decoder(list[PieceId])
_SEALED: Final = msgspec.msgpack.Decoder(bytes)
_log = logging.getLogger(__name__)


class Adopting:
    """Goes through all segments, for as long as nodes may have what is not known here."""

    def __init__(self, *, net: str, clock: Clock, database: Database, nodes: Nodes, secrets: Secrets, ask: Ask) -> None:
        self._net = net
        self._clock = clock
        self._database = database
        self._nodes = nodes
        self._secrets = secrets
        self._ask = ask

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            began_ms = self._clock.monotonic_ms()
            await self.adopt()
            took_s = (self._clock.monotonic_ms() - began_ms) / 1000
            await self._clock.sleep(max(LOOK_S, REST_TIMES * took_s))

    async def adopt(self) -> int:
        """Go through all of them once, where the database was restored lately; returns how many pieces were found."""
        found, after = 0, b""
        while True:
            async with self._database.transaction() as tx:
                if not await was_restored_lately(tx, self._clock.now_ms()):
                    return found
                rows = await tx.fetch(_PAGE, after, PIECES_AT_ONCE)
            here = {one.alias for one in self._here()}
            named = {row["id"]: row["nodes"] for row in rows if row["waits"] or not _is_readable(row, here)}
            has, answered = await self._who_has([*named])
            for segment, lenders in has.items():
                lacks = answered.intersection(named[segment]) - {one.alias for one in lenders}
                try:
                    found += await self._adopt(segment, lenders, lacks)
                except Conflict as error:
                    _log.info("segment %s: what was found is looked for again: %s", segment.hex(), error)
            if len(rows) < PIECES_AT_ONCE:
                return found
            after = rows[-1]["id"]

    def _here(self) -> list[Lender]:
        """Nodes that are heard now, and whose pieces count."""
        return [one for one in self._nodes.there() if self._nodes.is_online(one)]

    async def _who_has(self, segments: Sequence[bytes]) -> tuple[dict[bytes, list[Lender]], set[int]]:
        """Which nodes have a piece of each of these, or take one out of their trash, and who of all answers."""
        gate, has = asyncio.Semaphore(NODES_AT_ONCE), defaultdict[bytes, list[Lender]](list)
        answered = set[int]()

        async def ask(lender: Lender) -> None:
            async with gate:
                pieces = {self._secrets.piece(segment, lender.node): segment for segment in segments}
                try:
                    answer = await self._ask(lender.node, msgspec.msgpack.encode(TakeBack([*pieces])))
                    here = [pieces[piece] for piece in _PIECES.decode(answer) if piece in pieces]
                except (FallowError, *UNREADABLE) as error:
                    _log.info("Node %s does not say which pieces it has: %s", lender.node.hex(), error)
                    return
            answered.add(lender.alias)
            for segment in here:
                has[segment].append(lender)

        if segments:
            async with asyncio.TaskGroup() as group:
                for lender in self._nodes.online():
                    group.create_task(ask(lender))
        return has, answered

    async def _adopt(self, id_: bytes, lenders: Sequence[Lender], lacks: Collection[int]) -> int:
        """Have a segment count on those of these nodes whose pieces it lacks; returns how many these are.

        `lacks` are those that it names and that say they have nothing of it.

        Raises:
            Conflict: `storage.segment_changed`: somebody else has changed it meanwhile.
        """
        heard = [one for one in self._here() if one.alias not in lacks]
        aliases = {one.alias for one in heard}
        async with self._database.transaction() as tx:
            segment = await repair_rows.look_up(tx, id_)
            if segment is None:
                return 0
            never = {*segment.nodes, *await repair_rows.hold(tx, segment)}
            here = [one for one in lenders if one.alias in aliases and one.alias not in never]
            if not here:
                return 0
            named = await repair_rows.name(tx, segment, [one.alias for one in here], self._clock.now_ms())
        known = Whereabouts(heard)
        lacking = set(range(len(segment.nodes))).difference(known.counted(segment.nodes, segment.countries))
        to: dict[int, int] = {}
        for one in here:
            number = await self._number(segment, one, lacking - to.keys())
            if number is not None:
                to[number] = one.alias
        if not to:
            return 0
        async with self._database.transaction() as tx:
            await repair_rows.move(tx, segment, to, [named], self._clock.now_ms())
            await audit_again(tx, id_, [alias for alias in segment.nodes if alias in lacks], self._clock.now_ms())
        _log.info(
            "segment %s: %d pieces were found that were moved after the time that was restored", id_.hex(), len(to)
        )
        return len(to)

    async def _number(self, segment: Damaged, lender: Lender, lacking: Collection[int]) -> int | None:
        """Which of these numbers the piece on a node has, as the network claimed when it brought it there."""
        id_ = self._secrets.piece(segment.id, lender.node)
        try:
            sealed = _SEALED.decode(await self._ask(lender.node, msgspec.msgpack.encode(ShowClaim(id_))))
        except (FallowError, *UNREADABLE) as error:
            _log.info("Node %s does not show the claim on a piece: %s", lender.node.hex(), error)
            return None
        return await asyncio.to_thread(self._claimed, sealed, id_, segment.layout.piece_bytes, sorted(lacking))

    def _claimed(self, sealed: bytes, piece: bytes, length: int, numbers: Sequence[int]) -> int | None:
        for number in numbers:
            claim = claim_by([self._secrets.repairs(number)], sealed)
            if claim is not None and (claim.net, claim.piece, claim.length) == (self._net, piece, length):
                return number
        return None


def _is_readable(row: Row, here: Collection[int]) -> bool:
    return sum(alias in here for alias in row["nodes"]) >= PROFILES[row["profile"]].needed
