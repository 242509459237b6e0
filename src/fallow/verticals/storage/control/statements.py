"""Tells nodes how they stand: what counts on them, what audits found, what it has come to in this month."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from fallow.domain.errors import FallowError
from fallow.domain.signing import Sign
from fallow.ports.clock import Clock
from fallow.ports.database import Database, Row
from fallow.ports.vertical.control import Ask, ControlGround
from fallow.verticals.storage.control.nodes import Lender, Nodes
from fallow.verticals.storage.control.rates import FIRST
from fallow.verticals.storage.control.verdicts import read_state
from fallow.verticals.storage.core.exiting import ppm
from fallow.verticals.storage.core.questions import Tell
from fallow.verticals.storage.core.reputation import Reputation
from fallow.verticals.storage.core.statements import Month, Statement, Use, earned, expected_more
from fallow.verticals.storage.core.tariff import DAY_MS, FINE, HOUR_MS, Rates

EVERY_MS: Final = 600_000
LOOK_S: Final = 5.0
AT_ONCE: Final = 256
"""Some 30,000 in ten minutes; where there are more, all wait alike."""

ROWS: Final = """
SELECT n.alias, n.standing, n.exit, r.state, coalesce(r.audits, 0) AS audits, coalesce(l.bytes, 0) AS bytes,
    m.byte_ms, m.egress, m.repaired, m.earned, a.stored AS rate_stored, a.egress AS rate_egress
FROM storage.node n LEFT JOIN storage.reputation r USING (alias) LEFT JOIN storage.lender l USING (alias)
LEFT JOIN storage.mean_rate a ON a.payee = n.account
CROSS JOIN LATERAL (
    SELECT coalesce(sum(byte_ms), 0) AS byte_ms, coalesce(sum(egress), 0) AS egress,
        coalesce(sum(repaired), 0) AS repaired, coalesce(sum(earned), 0) AS earned
    FROM storage.lender_day d WHERE d.alias = n.alias AND d.day BETWEEN $2 AND $3
) m WHERE n.alias = ANY($1::integer[]) ORDER BY n.alias
"""


class Statements:
    """Each process tells all nodes that are there, every ten minutes and when it hears of them first."""

    def __init__(self, ground: ControlGround, nodes: Nodes) -> None:
        self._net = ground.net
        self._fees = ground.fees
        self._sign: Sign = ground.sign
        self._clock: Clock = ground.clock
        self._database: Database = ground.database
        self._ask: Ask = ground.ask
        self._nodes = nodes
        self._told_ms: dict[int, int] = {}

    async def deliver(self) -> None:
        """Go on until cancelled."""
        while True:
            await self.tell()
            await self._clock.sleep(LOOK_S)

    async def tell(self) -> None:
        """Tell those for whom it is time, some at once. Who does not hear it now is told the next time."""
        now = self._clock.monotonic_ms()
        due = [one for one in self._nodes.online() if now - self._told_ms.get(one.alias, now - EVERY_MS) >= EVERY_MS]
        due.sort(key=lambda one: self._told_ms.get(one.alias, 0))
        some = {one.alias: one for one in due[:AT_ONCE]}
        if not some:
            return
        self._told_ms |= dict.fromkeys(some, now)
        async with self._database.transaction() as tx:
            month, today = month_of(self._clock.now_ms()), self._clock.now_ms() // DAY_MS
            rows = await tx.fetch(ROWS, list(some), month.first_day, today)
        sealed = await asyncio.to_thread(self._sealed, rows, some)
        async with asyncio.TaskGroup() as group:
            for node, statement in sealed:
                group.create_task(self._tell(node, statement))

    def _sealed(self, rows: Sequence[Row], lenders: dict[int, Lender]) -> list[tuple[bytes, bytes]]:
        now = self._clock.now_ms()
        nodes = [(row, lenders[row["alias"]].node) for row in rows]
        return [
            (node, statement_of(row, self._net, node, now, self._fees.at(now).fee_ppm).seal(self._sign))
            for row, node in nodes
        ]

    async def _tell(self, node: bytes, statement: bytes) -> None:
        try:
            await self._ask(node, msgspec.msgpack.encode(Tell(statement)))
        except FallowError:
            return


def statement_of(row: Row, net: str, node: bytes, now: int, fee_ppm: int) -> Statement:
    """What a row of `ROWS` comes to at `now`, where the network keeps so many millionths of what is still to come."""
    reputation = read_state(row["state"]) if row["state"] is not None else Reputation()
    month = month_of(now)
    use, stored = Use(int(row["byte_ms"] // HOUR_MS), int(row["egress"])), max(0, int(row["bytes"]))
    so_far = int(row["earned"])
    rates = FIRST if row["rate_stored"] is None else Rates(int(row["rate_stored"]), int(row["rate_egress"]))
    more = earned(expected_more(month, now, stored, use), rates, fee_ppm)
    return Statement(
        net=net,
        node=node,
        at_ms=now,
        standing=row["standing"],
        exit=row["exit"],
        audits=row["audits"],
        score_ppm=ppm(reputation.score),
        unknown_ppm=ppm(reputation.unknown_score),
        online_ppm=ppm(reputation.online_score),
        stored_bytes=stored,
        month_ms=month.since_ms,
        stored_byte_hours=use.stored_byte_hours,
        egress_bytes=use.egress_bytes,
        repair_bytes=int(row["repaired"]),
        earned_microusd=so_far // FINE,
        expected_microusd=(so_far + more) // FINE,
    )


def month_of(at_ms: int) -> Month:
    """The month that a time is in."""
    first = datetime.fromtimestamp(at_ms // 1000, UTC).replace(day=1, hour=0, minute=0, second=0)
    year, month = divmod(first.year * 12 + first.month, 12)
    following = first.replace(year=year, month=month + 1)
    return Month(int(first.timestamp()) * 1000, int(following.timestamp()) * 1000)
