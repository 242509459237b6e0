"""How PostgreSQL is, and how long the queues in it are, as numbers for `/metrics`.

No question's cost grows with the network: ends of indexes, and queues up to `QUEUE_MAX`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fallow.domain.errors import Unavailable
from fallow.domain.metrics import Family, counter, counters, gauge, gauge_if_known
from fallow.ports.clock import Clock
from fallow.ports.database import Database, Row

QUEUE_MAX: Final = 10_000
"""Nobody needs to know how much longer a queue is."""

SILENT_MS: Final = 3_000
"""Who has not answered for so long counts as away."""

_ENGINE: Final = """
SELECT pg_database_size(datid) AS bytes, numbackends, xact_commit, xact_rollback, deadlocks,
    current_setting('max_connections')::bigint AS connections_max,
    CASE WHEN current_setting('archive_mode') <> 'off' THEN (
        SELECT extract(epoch FROM clock_timestamp() - coalesce(a.last_archived_time, a.stats_reset))::float8
        FROM pg_stat_archiver a) END AS change_s
FROM pg_stat_database WHERE datname = current_database()
"""
_INGEST: Final = """
SELECT (SELECT coalesce(max(pos), 0) FROM ingest.batch) AS head,
    (SELECT count(*) FROM (SELECT 1 FROM outbox.decision LIMIT $1) AS few) AS unsealed,
    (SELECT at FROM outbox.decision ORDER BY pos LIMIT 1) AS oldest
"""
_SETTLE: Final = """
SELECT (SELECT n_tup_ins FROM pg_stat_user_tables WHERE relid = 'ledger.transfer'::regclass) AS transfers,
    (SELECT coalesce(max(no), 0) FROM ledger.account) AS accounts,
    (SELECT count(*) FROM (SELECT 1 FROM settle.subscription
        WHERE state <> 'ended' AND due_at < $2 LIMIT $1) AS few) AS due,
    (SELECT min(due_at) FROM settle.subscription WHERE state <> 'ended') AS due_at,
    (SELECT count(*) FROM (SELECT 1 FROM settle.burn LIMIT $1) AS few) AS burns,
    (SELECT count(*) FROM (SELECT 1 FROM epochs.closed
        WHERE epoch > coalesce((SELECT max(epoch) FROM settle.paid_out), -1) LIMIT $1) AS few) AS unpaid
"""
_EPOCHS: Final = """
SELECT (SELECT max(epoch) FROM epochs.closed) AS closed, count(*) AS unclosed, min(until_ms) AS since
FROM ingest.epoch_end WHERE epoch > coalesce((SELECT max(epoch) FROM epochs.closed), -1)
"""
_REGISTRY: Final = """
SELECT (SELECT count(*) FROM registry.node WHERE banned_reason <> '') AS nodes,
    (SELECT count(*) FROM registry.account WHERE banned_reason <> '') AS accounts,
    (SELECT count(*) FROM (SELECT 1 FROM registry.join_token
        WHERE expires_at > $2 AND uses_left > 0 LIMIT $1) AS few) AS tokens
"""


class PostgresMeasures:
    """Measures what one of the core's roles looks after."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._up = True
        self._asked_ms: int | None = None

    async def reach(self) -> Sequence[Family]:
        """How long one question takes, and what `up` knows."""
        self._asked_ms = begun = self._clock.monotonic_ms()
        try:
            await self._row("SELECT 1 AS one")
            self._up = True
        except Unavailable:
            self._up = False
            return []
        finally:
            self._asked_ms = None
        took_s = (self._clock.monotonic_ms() - begun) / 1000
        return [gauge("fallow_postgres_answer_seconds", "How long its last answer to this process took.", took_s)]

    async def up(self) -> Sequence[Family]:
        """Whether this process reaches the database. It waits for nothing, so that a silent one is told, too."""
        silent = self._asked_ms is not None and self._clock.monotonic_ms() - self._asked_ms >= SILENT_MS
        up = self._up and not silent
        return [gauge("fallow_postgres_up", "Whether PostgreSQL answers this process.", up)]

    async def engine(self) -> Sequence[Family]:
        """The engine itself."""
        row = await self._row(_ENGINE)
        ended = {"commit": row["xact_commit"], "rollback": row["xact_rollback"]}
        return [
            gauge("fallow_postgres_bytes", "Size of the network's database.", row["bytes"]),
            gauge("fallow_postgres_connections", "Connections to it.", row["numbackends"]),
            gauge("fallow_postgres_connections_max", "Connections that it takes.", row["connections_max"]),
            counters("fallow_postgres_transactions", "Transactions by how they ended.", "end", ended),
            counter("fallow_postgres_deadlocks", "Deadlocks that it broke.", row["deadlocks"]),
            gauge_if_known(
                "fallow_backup_change_age_seconds",
                "How long ago it sent changes to its backups, where it has any.",
                row["change_s"],
            ),
        ]

    async def registry(self) -> Sequence[Family]:
        """Who may come, and who may not."""
        row = await self._row(_REGISTRY, QUEUE_MAX, self._clock.now_ms())
        return [
            gauge("fallow_banned_nodes", "Nodes that were banned themselves.", row["nodes"]),
            gauge("fallow_banned_accounts", "Accounts that were banned.", row["accounts"]),
            gauge("fallow_join_tokens_open", "Join tokens that still let machines in.", row["tokens"]),
        ]

    async def ingest(self) -> Sequence[Family]:
        """How far the log of records is, and what the network itself has to say and has not sealed."""
        row = await self._row(_INGEST, QUEUE_MAX)
        return [
            gauge("fallow_ingest_log_position", "Position of the last batch in the log.", row["head"]),
            gauge(
                "fallow_decisions_unsealed", "Decisions of the network that wait to become records.", row["unsealed"]
            ),
            gauge("fallow_decisions_unsealed_age_seconds", "How long the oldest waits.", self._since(row["oldest"])),
        ]

    async def settle(self) -> Sequence[Family]:
        """The ledger, and money that should have moved by now."""
        row = await self._row(_SETTLE, QUEUE_MAX, self._clock.now_ms())
        return [
            counter("fallow_ledger_transfers", "Transfers that were written, those rolled back too.", row["transfers"]),
            gauge("fallow_ledger_accounts", "Accounts of the ledger, at most.", row["accounts"]),
            gauge("fallow_settle_windows_due", "Subscriptions whose window is over and not settled.", row["due"]),
            gauge("fallow_settle_late_seconds", "How long the oldest of them is over.", self._since(row["due_at"])),
            gauge("fallow_settle_burns_waiting", "Burns that wait for a price that holds.", row["burns"]),
            gauge(
                "fallow_settle_epochs_unpaid", "Closed epochs whose earnings have not left the ledger.", row["unpaid"]
            ),
        ]

    async def epochs(self) -> Sequence[Family]:
        """Which epochs are over and not closed."""
        row = await self._row(_EPOCHS)
        closed = (
            [] if row["closed"] is None else [gauge("fallow_epoch_closed", "The last closed epoch.", row["closed"])]
        )
        return [
            *closed,
            gauge("fallow_epochs_unclosed", "Epochs that are over and not closed.", row["unclosed"]),
            gauge("fallow_epochs_late_seconds", "How long the oldest of them is over.", self._since(row["since"])),
        ]

    def _since(self, at_ms: int | None) -> float:
        return 0.0 if at_ms is None else max(0, self._clock.now_ms() - at_ms) / 1000

    async def _row(self, query: str, *values: object) -> Row:
        async with self._database.transaction() as tx:
            (row,) = await tx.fetch(query, *values)
        return row
