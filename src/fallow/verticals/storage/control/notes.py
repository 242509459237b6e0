"""Tells nodes what was found of them, with the evidence: those that are away, once they are back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from fallow.domain.errors import FallowError
from fallow.ports.clock import Clock
from fallow.ports.database import Database, Row, Transaction
from fallow.ports.vertical.control import Ask
from fallow.verticals.storage.control.nodes import Lender, Nodes
from fallow.verticals.storage.core.questions import Evidence, Note

LOOK_S: Final = 10.0
AT_ONCE: Final = 64
EVIDENCE_MAX: Final = 10
_EVIDENCE: Final = msgspec.msgpack.Decoder(Evidence)
_OUTCOMES: Final[Mapping[str, Sequence[str]]] = {
    "storage.audits_failed": ("storage.audit_failed", "storage.audit_timeout"),
    "storage.audits_unknown": ("storage.audit_unknown", "storage.audit_timeout"),
    "storage.away": ("storage.audit_offline",),
}


class Notes:
    """Delivers them. A node may be told twice, and in the order of what happened."""

    def __init__(self, *, clock: Clock, database: Database, nodes: Nodes, ask: Ask) -> None:
        self._clock = clock
        self._database = database
        self._nodes = nodes
        self._ask = ask
        self._after = 0

    async def deliver(self) -> None:
        """Go on until cancelled."""
        while True:
            await self.tell()
            await self._clock.sleep(LOOK_S)

    async def tell(self) -> None:
        """Tell those that are there what they were not told yet, one thing each; some at a time, in turn.

        So those that do not hear of it hold up no others.
        """
        there = {one.alias: one for one in self._nodes.online()}
        async with self._database.transaction() as tx:
            rows = await tx.fetch(
                "SELECT DISTINCT ON (alias) id, alias, at_ms, kind, code, text FROM storage.finding"
                " WHERE NOT told AND alias = ANY($1::integer[]) AND alias > $3 ORDER BY alias, id LIMIT $2",
                list(there),
                AT_ONCE,
                self._after,
            )
            self._after = rows[-1]["alias"] if len(rows) == AT_ONCE else 0
            notes = [(row, await note_of(tx, row)) for row in rows]
        async with asyncio.TaskGroup() as group:
            for row, note in notes:
                group.create_task(self._tell(there[row["alias"]], row["id"], note))

    async def _tell(self, node: Lender, finding: int, note: Note) -> None:
        try:
            await self._ask(node.node, msgspec.msgpack.encode(note))
        except FallowError:  # it is told again
            return
        async with self._database.transaction() as tx:
            await tx.execute("UPDATE storage.finding SET told = true WHERE id = $1", finding)


async def note_of(tx: Transaction, row: Row, evidence_max: int = EVIDENCE_MAX) -> Note:
    """What was found of a node, with the latest of what led to it."""
    evidence = await tx.fetch(
        "SELECT evidence FROM storage.finding WHERE alias = $1 AND id < $2 AND kind = '' AND code = ANY($3::text[])"
        " ORDER BY id DESC LIMIT $4",
        row["alias"],
        row["id"],
        list(_OUTCOMES[row["code"]]),
        evidence_max,
    )
    return Note(
        kind=row["kind"],
        code=row["code"],
        text=row["text"],
        at_ms=row["at_ms"],
        evidence=[_EVIDENCE.decode(one["evidence"]) for one in evidence],
    )
