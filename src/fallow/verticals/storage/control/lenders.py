"""Tells owners how their nodes that lend disks stand, and what was found of them that may cost them."""

from __future__ import annotations

from typing import Final

import msgspec

from fallow.domain.alerts import ALERTS_MAX, Alert
from fallow.domain.calls import AccountRef
from fallow.domain.identity import address
from fallow.ports.clock import Clock
from fallow.ports.database import Database, Row, Transaction
from fallow.ports.vertical import ControlGround
from fallow.verticals.storage.control.notes import note_of
from fallow.verticals.storage.control.statements import ROWS, month_of, statement_of
from fallow.verticals.storage.core.lenders import GetLenders, LenderView, holding, said
from fallow.verticals.storage.core.questions import Note
from fallow.verticals.storage.core.tariff import DAY_MS

EVIDENCE_SHOWN: Final = 3
_NODES: Final = """
SELECT alias, node, limit_bytes, seen_ms FROM storage.node
WHERE account = $1 AND node > $2 AND exit <> 'left' ORDER BY node LIMIT $3
"""
_FOUND: Final = """
SELECT DISTINCT ON (code) id, alias, at_ms, kind, code, text FROM storage.finding
WHERE alias = $1 AND kind <> '' ORDER BY code, id DESC
"""

_WARNED: Final = """
SELECT DISTINCT ON (n.node, f.code) n.node, f.at_ms, f.kind, f.code, f.text
FROM storage.node n JOIN storage.finding f USING (alias)
WHERE n.account = $1 AND n.exit <> 'left' AND f.kind <> '' ORDER BY n.node, f.code, f.id DESC
"""


class Lenders:
    """Of a network."""

    def __init__(self, ground: ControlGround) -> None:
        self._net = ground.net
        self._fee_ppm = ground.fee_ppm
        self._clock: Clock = ground.clock
        self._database: Database = ground.database

    async def get(self, call: GetLenders) -> list[LenderView]:
        """Show an account's nodes, with the latest of each code that was found of them and holds now."""
        now = self._clock.now_ms()
        async with self._database.transaction() as tx:
            nodes = await tx.fetch(_NODES, address(call.account), call.after, call.limit)
            said = await tx.fetch(ROWS, [row["alias"] for row in nodes], month_of(now).first_day, now // DAY_MS)
            standing = {row["alias"]: row for row in said}
            return [await self._view(tx, row, standing[row["alias"]], now) for row in nodes]

    async def alerts(self, request: AccountRef) -> list[Alert]:
        """Tell what was found of an account's nodes and holds now, at most `ALERTS_MAX`."""
        async with self._database.transaction() as tx:
            found = await tx.fetch(_WARNED, address(request.account))
        now = self._clock.now_ms()
        notes = [(row["node"], Note(*(row[name] for name in ("kind", "code", "text", "at_ms")))) for row in found]
        return [_alert(node, note) for node, note in notes if holding([note], now)][:ALERTS_MAX]

    async def _view(self, tx: Transaction, row: Row, said: Row, now: int) -> LenderView:
        found = [await note_of(tx, one, EVIDENCE_SHOWN) for one in await tx.fetch(_FOUND, row["alias"])]
        return LenderView(
            node=row["node"],
            limit_bytes=row["limit_bytes"],
            seen_ms=row["seen_ms"],
            statement=statement_of(said, self._net, row["node"], now, self._fee_ppm),
            alerts=[_brief(note) for note in holding(found, now)],
        )


def _brief(note: Note) -> Note:
    """Without what the node answered, which it has itself: it would not all go over the bus."""
    return msgspec.structs.replace(note, evidence=[msgspec.structs.replace(one, answer=b"") for one in note.evidence])


def _alert(node: bytes, note: Note) -> Alert:
    values: dict[str, str | int] = {"kind": note.kind, "code": note.code}
    key = f"lent:{node.hex()}:{note.kind}:{note.code}"
    return Alert(key, "lent.warned", node.hex(), values=values, said=said(note))
