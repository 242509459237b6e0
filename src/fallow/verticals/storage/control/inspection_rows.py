"""The last check of pieces as rows: who asked for it, who does it, and what was found of each node, and of objects."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from fallow.domain.errors import Conflict
from fallow.ports.acting import action_of, note
from fallow.ports.clock import Clock
from fallow.ports.database import Database, Transaction
from fallow.ports.registry_store import ActionLog
from fallow.verticals.storage.control.recovering import require_not_restored
from fallow.verticals.storage.core.upkeep import (
    INSPECTED_MAX,
    GetInspection,
    Inspect,
    InspectedNode,
    InspectedObjects,
    Inspection,
)

GONE_MS: Final = 120_000
"""Who does not say for so long that he goes on is gone."""
_ASK: Final = """
INSERT INTO storage.inspection AS i (state, repair, owner, asked_ms, updated_ms, segments)
VALUES ('asked', $1, '', $2, $2, 0) ON CONFLICT (one) DO UPDATE
SET state = 'asked', repair = $1, owner = '', asked_ms = $2, updated_ms = $2, segments = 0 WHERE i.state = 'done'
RETURNING repair
"""
_TAKE: Final = """
UPDATE storage.inspection SET state = 'running', owner = $1, updated_ms = $2, segments = 0, objects = ''
WHERE state = 'asked' OR (state = 'running' AND updated_ms < $3) RETURNING repair
"""


class InspectionRows:
    """Keeps it."""

    def __init__(self, database: Database, clock: Clock, log: ActionLog) -> None:
        self._database = database
        self._log = log
        self._clock = clock

    async def ask(self, call: Inspect) -> Inspection:
        """See the call."""
        async with self._database.transaction() as tx:
            if call.repair:
                await require_not_restored(tx, self._clock.now_ms())
            now = self._clock.now_ms()
            if await tx.fetch(_ASK, call.repair, now):
                if call.by is not None:
                    about = "repair" if call.repair else ""
                    await note(self._log, tx, action_of(call.by, "storage.check", now, once=str(now), about=about))
            else:
                found = await _inspection(tx)
                if found.repair != call.repair:
                    raise Conflict("storage.inspecting", "Another check is under way.", "Wait for its end.")
            return await _inspection(tx)

    async def get(self, call: GetInspection) -> Inspection:
        """See the call."""
        async with self._database.transaction() as tx:
            rows = await tx.fetch(
                "SELECT report FROM storage.inspected WHERE alias > $1 ORDER BY alias LIMIT $2",
                call.after,
                INSPECTED_MAX,
            )
            nodes = [msgspec.msgpack.decode(row["report"], type=InspectedNode) for row in rows]
            return msgspec.structs.replace(await _inspection(tx), nodes=nodes)

    async def take(self, owner: bytes) -> bool | None:
        """Take the check that is to be done; returns whether with repair, None where there is none."""
        now = self._clock.now_ms()
        async with self._database.transaction() as tx:
            rows = await tx.fetch(_TAKE, owner, now, now - GONE_MS)
            if rows:
                await tx.execute("DELETE FROM storage.inspected")
        return bool(rows[0]["repair"]) if rows else None

    async def goes_on(self, owner: bytes, segments: int) -> bool:
        """Say how far it is; whether it is still the asker's to do."""
        return await self._update(owner, "running", segments)

    async def end(self, owner: bytes, segments: int, nodes: Iterable[InspectedNode], objects: InspectedObjects) -> None:
        """Write what was found, unless somebody else does it by now."""
        reports = [(one.alias, msgspec.msgpack.encode(one)) for one in nodes]
        async with self._database.transaction() as tx:
            if await _set(tx, owner, "done", segments, self._clock.now_ms()):
                await tx.copy("storage.inspected", ["alias", "report"], reports)
                await tx.execute("UPDATE storage.inspection SET objects = $1", msgspec.msgpack.encode(objects))

    async def _update(self, owner: bytes, state: str, segments: int) -> bool:
        async with self._database.transaction() as tx:
            return await _set(tx, owner, state, segments, self._clock.now_ms())


async def _set(tx: Transaction, owner: bytes, state: str, segments: int, now_ms: int) -> bool:
    rows = await tx.fetch(
        "UPDATE storage.inspection SET state = $2, segments = $3, updated_ms = $4"
        " WHERE owner = $1 AND state = 'running' RETURNING 1",
        owner,
        state,
        segments,
        now_ms,
    )
    return bool(rows)


async def _inspection(tx: Transaction) -> Inspection:
    rows = await tx.fetch("SELECT state, repair, asked_ms, updated_ms, segments, objects FROM storage.inspection")
    if not rows:
        return Inspection(state="none")
    row = dict(rows[0])
    found = row.pop("objects")
    return Inspection(objects=msgspec.msgpack.decode(found, type=InspectedObjects) if found else None, **row)
