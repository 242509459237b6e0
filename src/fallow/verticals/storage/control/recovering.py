"""After the database was put back to an earlier time: has nodes take back what they were told to delete since then.

What a node does not have any more is nobody's fault: it is not counted on from then on, so that repair makes it anew,
and audits ask for none of it. Nodes that are not there are asked when they are.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from fallow.domain.decoding import UNREADABLE
from fallow.domain.errors import Conflict, FallowError
from fallow.ports.clock import Clock
from fallow.ports.database import Database, Row, Transaction
from fallow.ports.vertical.control import Ask
from fallow.verticals.storage.control.known_pieces import KnownPieces, aliases_of
from fallow.verticals.storage.control.limits import Secrets
from fallow.verticals.storage.control.nodes import Nodes
from fallow.verticals.storage.control.segments import piece_bytes
from fallow.verticals.storage.core.orders import PieceId
from fallow.verticals.storage.core.profiles import PROFILES
from fallow.verticals.storage.core.questions import PIECES_AT_ONCE, TakeBack
from fallow.verticals.storage.core.reputation import DAY_MS

LOOK_S: Final = 5.0
NODES_AT_ONCE: Final = 8
WAITING_MAX: Final = 2_000_000
"""Pieces that are gathered at most: each node is asked for as many as it may be at a time, and for fewer when these are
so many. Of a thousand segments of a large network one node has four: to ask for each thousand would take weeks."""
STRANGE_MS: Final = 7 * DAY_MS
"""So long nothing is taken for nobody's: it may be of what was stored behind the time that was restored."""
AGAIN_MS_MAX: Final = 600_000
"""Who does not answer is asked again after `LOOK_S`, then twice as long, up to this: each time costs a look through all
segments."""
TRIES_MAX: Final = 150
"""A day of being there. Audits ask him then like everybody: else who never answers would be paid unseen for ever."""
_PIECES: Final = msgspec.msgpack.Decoder(list[PieceId])
_NAMED: Final = "SELECT id FROM storage.segment WHERE id = ANY($1::bytea[]) AND $2 = ANY(nodes)"
_NOW: Final = """
SELECT (SELECT system_identifier::text FROM pg_control_system())
 || '/' || left(pg_walfile_name(pg_current_wal_lsn()), 8) AS name
"""
_INSPECT_ONLY: Final = """
UPDATE storage.inspection SET state = 'asked', repair = false, owner = '' WHERE repair AND state <> 'done'
"""
"""See `require_not_restored`: a check that was under way at the time that was restored is begun anew, without that."""
_PURGE_NOT: Final = """
UPDATE storage.{} g SET purge = false
WHERE purge AND EXISTS (SELECT FROM storage.segment s WHERE s.id = g.segment)
"""
"""Of a segment that is stored, what was to be purged may be what a repair brought to the same node since: it goes into
the trash, where it can be found."""
_log = logging.getLogger(__name__)


class Recovery:
    """Looks whether the database is of another course of things than before, and does what follows."""

    def __init__(self, *, clock: Clock, database: Database, nodes: Nodes, secrets: Secrets, ask: Ask) -> None:
        self._clock = clock
        self._database = database
        self._nodes = nodes
        self._secrets = secrets
        self._ask = ask
        self._known = KnownPieces(database, secrets)
        self._silent: dict[int, tuple[int, int]] = {}
        """Of those that were there and did not answer: how often, and from when on they are asked again."""

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            await self.look()
            if not await self.take_back():
                await self._clock.sleep(LOOK_S)

    async def look(self) -> None:
        """Have all nodes asked where the database was restored."""
        async with self._database.transaction() as tx:
            (now,) = await tx.fetch(_NOW)
            before = await tx.fetch("SELECT name FROM storage.timeline FOR UPDATE")
            if not before:
                await tx.execute(
                    "INSERT INTO storage.timeline (name, since_ms) VALUES ($1, 0) ON CONFLICT DO NOTHING", now["name"]
                )
            elif before[0]["name"] != now["name"]:
                _log.warning("The database was restored: nodes are asked for what they have deleted since then")
                await tx.execute(
                    "UPDATE storage.timeline SET name = $1, since_ms = $2", now["name"], self._clock.now_ms()
                )
                await tx.execute(_INSPECT_ONLY)
                await tx.execute(_PURGE_NOT.format("garbage"))
                await tx.execute(_PURGE_NOT.format("dropped"))
                self._silent.clear()
                await tx.execute("INSERT INTO storage.recovering SELECT alias FROM storage.node ON CONFLICT DO NOTHING")

    async def take_back(self) -> bool:
        """Ask those that are there and were not asked yet; whether nobody has to ask any of them again."""
        async with self._database.transaction() as tx:
            recovering = await recovering_in(tx)
        now_ms = self._clock.now_ms()
        due = {alias for alias in recovering if self._silent.get(alias, (0, 0))[1] <= now_ms}
        there = {one.alias: one.node for one in self._nodes.online() if one.alias in due}
        if not there:
            return False
        asked = set(there)
        wanted: defaultdict[int, list[bytes]] = defaultdict(list)
        async for rows in self._known.stored():
            for alias, segments in aliases_of(rows).items():
                if alias in there:
                    wanted[alias] += segments
            many = sum(map(len, wanted.values())) >= WAITING_MAX
            await self._ask_all(
                there, {a: wanted.pop(a) for a in [*wanted] if many or len(wanted[a]) >= PIECES_AT_ONCE}
            )
        await self._ask_all(there, wanted)
        done = [*there, *self._given_up(asked - there.keys())]
        async with self._database.transaction() as tx:
            await tx.execute("DELETE FROM storage.recovering WHERE alias = ANY($1::integer[])", done)
        return bool(done)

    def _given_up(self, silent: Iterable[int]) -> list[int]:
        """Note who did not answer; returns those that are asked no more."""
        given_up = []
        for alias in silent:
            before, _ = self._silent.get(alias, (0, 0))
            pause_ms = min(AGAIN_MS_MAX, int(LOOK_S * 1000) << before)
            self._silent[alias] = before + 1, self._clock.now_ms() + pause_ms
            if before + 1 >= TRIES_MAX:
                _log.warning("Node %d has not said for a day what it has deleted: audits ask it again", alias)
                given_up.append(alias)
        return given_up

    async def _ask_all(self, there: dict[int, bytes], wanted: Mapping[int, Sequence[bytes]]) -> None:
        """Ask several at once for their pieces of segments; who does not answer is there no more."""
        gate = asyncio.Semaphore(NODES_AT_ONCE)

        async def answers(alias: int, segments: Sequence[bytes]) -> bool:
            async with gate:
                for at in range(0, len(segments), PIECES_AT_ONCE):
                    if not await self._ask_for(alias, there[alias], segments[at : at + PIECES_AT_ONCE]):
                        return False
            return True

        async with asyncio.TaskGroup() as group:
            asked = {alias: group.create_task(answers(alias, segments)) for alias, segments in wanted.items()}
        for alias in [alias for alias, task in asked.items() if not task.result()]:
            del there[alias]

    async def _ask_for(self, alias: int, node: bytes, segments: Sequence[bytes]) -> bool:
        async with self._database.transaction() as tx:  # what was dropped since it was read stays in the trash
            rows = await tx.fetch(_NAMED, list(segments), alias)
        if not rows:
            return True
        pieces = {self._secrets.piece(row["id"], node): row["id"] for row in rows}
        try:
            answer = _PIECES.decode(await self._ask(node, msgspec.msgpack.encode(TakeBack([*pieces]))))
        except (FallowError, *UNREADABLE) as error:
            _log.warning("Node %s is asked again for what it has deleted: %s", node.hex(), error)
            return False
        gone = [pieces[piece] for piece in pieces.keys() - set(answer)]
        if gone:
            async with self._database.transaction() as tx:
                await _give_up(tx, alias, gone, self._clock.now_ms())
        return True


async def recovering_in(tx: Transaction) -> set[int]:
    """Nodes of which it is not known yet what they have."""
    return {row["alias"] for row in await tx.fetch("SELECT alias FROM storage.recovering")}


async def require_not_restored(tx: Transaction, now_ms: int) -> None:
    """Make sure that what is not known here was not known on another course either, for which it may be kept.

    Raises:
        Conflict: `storage.restored`.
    """
    if await was_restored_lately(tx, now_ms):
        raise Conflict(
            "storage.restored",
            "The database was restored from a backup less than seven days ago: what no segment knows may be of what was"
            " stored behind the time that was restored.",
            "Leave --repair out until then.",
        )


async def was_restored_lately(tx: Transaction, now_ms: int) -> bool:
    """Whether nodes may still have what another course of things put there, or deleted."""
    return bool(await tx.fetch("SELECT FROM storage.timeline WHERE since_ms > $1", now_ms - STRANGE_MS))


async def audit_again(tx: Transaction, segment: bytes, without: Iterable[int], now_ms: int) -> None:
    """Have audits ask again for a segment that was found, and nobody count on those nodes that have nothing of it."""
    await tx.execute("UPDATE storage.segment SET client = abs(client) WHERE id = $1", segment)
    for alias in without:
        await _give_up(tx, alias, [segment], now_ms)


async def _give_up(tx: Transaction, alias: int, segments: Sequence[bytes], now_ms: int) -> None:
    """Count on a node no more for these.

    Where too few pieces would be left, it may still find its own: that stays, and with a client below 0 no audit asks
    for it.
    """
    rows = await tx.fetch(
        "SELECT id, bucket, payload, profile, nodes FROM storage.segment WHERE id = ANY($1::bytea[])"
        " AND $2 = ANY(nodes) ORDER BY id FOR UPDATE",
        list(segments),
        alias,
    )
    enough = [row for row in rows if _others(row, alias) >= PROFILES[row["profile"]].needed]
    scarce = [row["id"] for row in rows if row not in enough]
    await tx.execute(
        "UPDATE storage.segment SET nodes = array_replace(nodes, $2, 0) WHERE id = ANY($1::bytea[])",
        [row["id"] for row in enough],
        alias,
    )
    await tx.copy(
        "storage.change",
        ["bucket", "nodes", "bytes", "at_ms"],
        [(row["bucket"], [alias], -piece_bytes(row["payload"], row["profile"]), now_ms) for row in enough],
    )
    await tx.execute("UPDATE storage.segment SET client = -abs(client) WHERE id = ANY($1::bytea[])", scarce)


def _others(row: Row, alias: int) -> int:
    return sum(node not in {0, alias} for node in row["nodes"])
