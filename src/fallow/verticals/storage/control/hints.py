"""What readers say was altered: the network reads that piece itself, as one of them would, and only that counts.

Readers can lie, and choose whom they speak of. So a node is looked at for them once a day at most, whoever and how many
say so: with the 48 audits by chance that it has each day, those that readers chose are less than four of a hundred,
below which nobody is disqualified. The node cannot tell that it is the network that reads: each time by another key,
under a limit like a buyer's, at a time drawn from the next hour.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from fallow.domain.errors import FallowError
from fallow.ports.clock import Clock
from fallow.ports.database import Database, Transaction
from fallow.ports.tasks import within
from fallow.verticals.storage.client.pieces import Mover
from fallow.verticals.storage.control import repair_rows
from fallow.verticals.storage.control.choosing import Uniform
from fallow.verticals.storage.control.limits import REPAIRS, Signer, Wanted
from fallow.verticals.storage.control.nodes import Nodes
from fallow.verticals.storage.control.repair_rows import Damaged
from fallow.verticals.storage.control.repairing import READ_S
from fallow.verticals.storage.control.whole_audits import Given, WholeAudits
from fallow.verticals.storage.control.whole_pieces import read_whole
from fallow.verticals.storage.core.calls.segments import Place, SayAltered
from fallow.verticals.storage.core.layout import SHARE_BYTES
from fallow.verticals.storage.core.tariff import DAY_MS, HOUR_MS

NODES_A_DAY: Final = 10
"""Of each account: else one could have so many looked at that nobody else is heard."""
PIECES_AT_ONCE: Final = 4
"""In a process, up to 16 MiB each: who is slow holds up no other."""
LOOK_S: Final = 10.0
WHEN: Final = "to a reader"
_SAY: Final = """
INSERT INTO storage.hint AS h (alias, segment, account, said_ms, due_ms)
SELECT n.alias, s.id, $4, $5, $6 FROM storage.segment s JOIN storage.node n ON n.node = $3 AND n.alias = ANY(s.nodes)
WHERE s.id = $1 AND s.bucket = $2
    AND (SELECT count(*) FROM storage.hint WHERE account = $4 AND said_ms > $5::bigint - $7::bigint) < $8
ON CONFLICT (alias) DO UPDATE SET segment = EXCLUDED.segment, account = EXCLUDED.account, said_ms = EXCLUDED.said_ms,
    due_ms = EXCLUDED.due_ms
WHERE h.said_ms <= $5::bigint - $7::bigint
"""
_TAKE: Final = """
UPDATE storage.hint SET due_ms = NULL WHERE alias = (
    SELECT alias FROM storage.hint WHERE due_ms <= $1 AND alias = ANY($2::integer[])
    ORDER BY due_ms LIMIT 1 FOR UPDATE SKIP LOCKED
) RETURNING alias, segment
"""


async def say(tx: Transaction, said: SayAltered, bucket: int, account: bytes, now_ms: int, uniform: Uniform) -> None:
    """Take note of what a reader of a bucket says, unless its node, or he, has been heard of often enough."""
    due_ms = now_ms + int(uniform() * HOUR_MS)
    await tx.execute(_SAY, said.segment, bucket, said.node, account, now_ms, due_ms, DAY_MS, NODES_A_DAY)


class HintedAudits:
    """Several processes may do it at the same time. One that dies has lost what it looked at: it is a hint.

    `reader` makes a client with a key that nobody has seen.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        database: Database,
        nodes: Nodes,
        signer: Signer,
        audits: WholeAudits,
        reader: Callable[[], Mover],
    ) -> None:
        self._clock = clock
        self._database = database
        self._nodes = nodes
        self._signer = signer
        self._audits = audits
        self._reader = reader

    async def run(self) -> None:
        """Go on until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(PIECES_AT_ONCE):
                group.create_task(self._keep_looking())

    async def look_next(self) -> bool:
        """Read the piece that is due, on a node that is there, and book what that shows; whether there was one."""
        async with self._database.transaction() as tx:
            rows = await tx.fetch(_TAKE, self._clock.now_ms(), [one.alias for one in self._nodes.online()])
            if not rows:
                return False
            alias = rows[0]["alias"]
            segment = await repair_rows.look_up(tx, rows[0]["segment"])
            lenders = await self._nodes.of(tx, [alias])
        if segment is not None and alias in segment.nodes:
            number = list(segment.nodes).index(alias)
            given = await self._read(segment, number, lenders[alias].node)
            await self._audits.book(segment, lenders, WHEN, given={number: given})
        return True

    async def _keep_looking(self) -> None:
        while True:
            if not await self.look_next():
                await self._clock.sleep(LOOK_S)

    async def _read(self, segment: Damaged, number: int, node: bytes) -> Given:
        mover, size = self._reader(), segment.layout.piece_bytes
        wanted = [Wanted(node, segment.id, size)]
        (both,) = await self._signer.signed(wanted, "get", mover.public, REPAIRS, self._clock.now_ms())
        place = Place(number=number, node=node, limit=both.limit, ticket=both.ticket)
        try:
            return await within(self._clock, READ_S, read_whole(mover, place, size, SHARE_BYTES))
        except FallowError as error:
            return error
