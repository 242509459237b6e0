"""Tells owners how their nodes that lend disks stand, and what was found of them that may cost them."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

import msgspec

from fallow.domain.alerts import ALERTS_MAX, Alert
from fallow.domain.calls.base import AccountRef
from fallow.domain.identity import address
from fallow.ports.clock import Clock
from fallow.ports.database import Database, Row
from fallow.ports.vertical.control import ControlGround
from fallow.verticals.storage.control.notes import note_of
from fallow.verticals.storage.control.questioning import printable
from fallow.verticals.storage.control.statements import ROWS, month_of, statement_of
from fallow.verticals.storage.core.lenders import GetLenders, LenderView, holds, said
from fallow.verticals.storage.core.questions import CLOCK, Note
from fallow.verticals.storage.core.tariff import DAY_MS

EVIDENCE_SHOWN: Final = 3
NODES: Final = """
SELECT alias, node, limit_bytes, seen_ms, trouble FROM storage.node
WHERE account = $1 AND node > $2 AND exit <> 'left' ORDER BY node LIMIT $3
"""
_FOUND: Final = """
SELECT DISTINCT ON (n.node, f.code) n.node, f.id, f.alias, f.at_ms, f.kind, f.code, f.text
FROM storage.node n JOIN storage.finding f USING (alias)
WHERE {} AND f.kind <> '' ORDER BY n.node, f.code, f.id DESC
"""
_FOUND_OF: Final = _FOUND.format("n.alias = ANY($1::integer[])")
_FOUND_OF_ACCOUNT: Final = f"""
({_FOUND.format("n.account = $1 AND n.exit <> 'left'")})
UNION ALL
SELECT node, 0, alias, seen_ms, 'warning', '{CLOCK}', trouble FROM storage.node
WHERE account = $1 AND exit <> 'left' AND trouble LIKE '{CLOCK}: %'
ORDER BY node, code
"""  # noqa: S608 - our words


class Lenders:
    """Of a network."""

    def __init__(self, ground: ControlGround) -> None:
        self._net = ground.net
        self._fees = ground.fees
        self._clock: Clock = ground.clock
        self._database: Database = ground.database

    async def get(self, call: GetLenders) -> list[LenderView]:
        """Show an account's nodes, with the latest of each code that was found of them and holds now."""
        now = self._clock.now_ms()
        async with self._database.transaction() as tx:
            nodes = await tx.fetch(NODES, address(call.account), call.after, call.limit)
            stood = await tx.fetch(ROWS, [row["alias"] for row in nodes], month_of(now).first_day, now // DAY_MS)
            standing = {row["alias"]: row for row in stood}
            found: defaultdict[int, list[Note]] = defaultdict(list)
            for row in await tx.fetch(_FOUND_OF, list(standing)):
                if holds(row["kind"], row["at_ms"], now):
                    found[row["alias"]].append(_brief(await note_of(tx, row, EVIDENCE_SHOWN)))
            for row in nodes:
                if row["trouble"].startswith(CLOCK):
                    found[row["alias"]].append(_of_clock(row["trouble"], row["seen_ms"]))
            return [self._view(row, standing[row["alias"]], found[row["alias"]], now) for row in nodes]

    async def alerts(self, request: AccountRef) -> list[Alert]:
        """Tell what was found of an account's nodes and holds now, at most `ALERTS_MAX`, by the nodes' keys.

        And whose clocks are wrong, by what they say.
        """
        now = self._clock.now_ms()
        async with self._database.transaction() as tx:
            rows = await tx.fetch(_FOUND_OF_ACCOUNT, address(request.account))
        return [_alert(row) for row in rows if holds(row["kind"], row["at_ms"], now)][:ALERTS_MAX]

    def _view(self, row: Row, said: Row, alerts: list[Note], now: int) -> LenderView:
        return LenderView(
            node=row["node"],
            limit_bytes=row["limit_bytes"],
            seen_ms=row["seen_ms"],
            statement=statement_of(said, self._net, row["node"], now, self._fees.at(now).fee_ppm),
            alerts=alerts,
        )


def _brief(note: Note) -> Note:
    """Without what the node answered, which it has itself: it would not all go over the bus."""
    return msgspec.structs.replace(note, evidence=[msgspec.structs.replace(one, answer=b"") for one in note.evidence])


def _of_clock(trouble: str, at_ms: int) -> Note:
    """What a node says of its clock."""
    return Note("warning", CLOCK, printable(trouble.removeprefix(f"{CLOCK}: ")), at_ms)


def _alert(row: Row) -> Alert:
    note = (
        _of_clock(row["text"], row["at_ms"])
        if row["code"] == CLOCK
        else Note(*(row[name] for name in ("kind", "code", "text", "at_ms")))
    )
    node = row["node"].hex()
    values: dict[str, str | int] = {"kind": note.kind, "code": note.code}
    return Alert(f"lent:{node}:{note.kind}:{note.code}", "lent.warned", node, values=values, said=said(note))
