"""The ledger port on PostgreSQL: lock the touched accounts, read, evaluate the rules, write; all of it set-based."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import TypeVar

from fallow.adapters.postgres import ledger_rows as rows
from fallow.adapters.postgres.ledger_check import check
from fallow.domain.errors import Conflict, TooMuch, Unavailable
from fallow.domain.ledger import (
    BATCH_MAX,
    RESOLVES,
    Account,
    Balance,
    LedgerCheck,
    Movement,
    Outcome,
    Result,
    StatementRow,
    Transfer,
    View,
    apply_batch,
    expire_due,
)
from fallow.ports.database import Transaction

T = TypeVar("T")
U = TypeVar("U")

SEQ_PER_BLOCK = 8192
"""seq = block * 8192 + place in the batch; a batch has at most 8,190 transfers."""


class PostgresLedger:
    """The ledger port. It keeps nothing in memory: any number of processes may post at once."""

    async def open_accounts(self, tx: Transaction, accounts: Sequence[Account]) -> None:
        """Create the accounts that do not exist yet; see the port."""
        wanted = sorted((a.id, a.ledger, a.code, a.flags) for a in accounts)
        if not wanted:
            return
        await tx.execute(rows.INSERT_ACCOUNTS, *map(list, zip(*wanted, strict=True)))
        found = await tx.fetch(rows.READ_ACCOUNTS, rows.packed(a.id for a in accounts))
        stored = {row["id"]: (row["id"], row["ledger"], row["code"], row["flags"]) for row in found}
        for account in wanted:
            if stored[account[0]] != account:
                raise Conflict(
                    "ledger.account_differs",
                    f"account {account[0].hex()} exists with another ledger, code or flags",
                )

    async def post(self, tx: Transaction, transfers: Sequence[Transfer], now_ms: int) -> list[Result]:
        """Evaluate a batch serially and write what is accepted; see the port."""
        if len(transfers) > BATCH_MAX:
            raise TooMuch(
                "ledger.batch_too_large", f"a batch holds at most {BATCH_MAX} transfers, not {len(transfers)}"
            )
        if not transfers:
            return []
        pending_ids = {t.pending_id for t in transfers if t.pending_id is not None}
        accounts = {t.debit for t in transfers}
        accounts.update(t.credit for t in transfers)
        accounts.discard(b"")
        # Read also those pendings that the batch itself brings: their ids may be taken, with other accounts.
        pendings = await _read(tx, pending_ids)
        accounts.update(pending.debit for pending in pendings.values())
        accounts.update(pending.credit for pending in pendings.values())
        view, numbers = await _lock(tx, accounts, {t.id for t in transfers}, pending_ids, pendings)
        outcome = apply_batch(view, transfers, now_ms)
        await _write(tx, outcome, numbers)
        return outcome.results

    async def expire(self, tx: Transaction, now_ms: int, limit: int) -> int:
        """Release reservations that are due; see the port."""
        due = await tx.fetch(rows.READ_DUE, now_ms, min(limit, BATCH_MAX))
        if not due:
            return 0
        ids: list[bytes] = [row["pending_id"] for row in due]
        pendings = await _read(tx, ids)
        accounts = {p.debit for p in pendings.values()} | {p.credit for p in pendings.values()}
        view, numbers = await _lock(tx, accounts, set(), set(ids), pendings)
        outcome = expire_due(view, [view.transfers[id_] for id_ in ids], now_ms)
        await _write(tx, outcome, numbers)
        return len(outcome.movements)

    async def balances(self, tx: Transaction, ids: Sequence[bytes]) -> dict[bytes, Balance]:
        """Return the sums of these accounts; see the port."""
        found = await tx.fetch(rows.READ_ACCOUNTS, rows.packed(ids))
        return {id_: account.balance for id_, account in rows.accounts(found)[0].items()}

    async def history(self, tx: Transaction, account: bytes, after: int, limit: int) -> list[StatementRow]:
        """Return a page of an account's statement; see the port."""
        return rows.statement(await tx.fetch(rows.READ_HISTORY, account, after, limit))

    async def latest(self, tx: Transaction, account: bytes, before: int, limit: int) -> list[StatementRow]:
        """Return a page of an account's statement from its end; see the port."""
        return rows.statement(await tx.fetch(rows.READ_LATEST, account, before, limit))

    async def check(self, tx: Transaction) -> LedgerCheck:
        """Recompute everything from the transfers and compare; see the port."""
        return await check(tx)


async def _read(tx: Transaction, ids: Collection[bytes]) -> dict[bytes, Movement]:
    return rows.transfers(await tx.fetch(rows.READ_TRANSFERS, rows.packed(ids))) if ids else {}


async def _lock(
    tx: Transaction,
    accounts: Iterable[bytes],
    ids: set[bytes],
    pending_ids: set[bytes],
    pendings: dict[bytes, Movement],
) -> tuple[View, dict[bytes, int]]:
    """Lock the accounts, then read what the rules need to know; also return the accounts' numbers.

    Reading comes second: whoever held the locks before may have written the very ids that this batch brings. Only
    `pendings` were read before, to know their accounts, and they never change.
    """
    locked = await tx.fetch(rows.LOCK_ACCOUNTS, rows.packed(accounts))
    (records, numbers), read = await _while_waiting(
        _read(tx, (ids | pending_ids).difference(pendings)), lambda: rows.accounts(locked)
    )
    transfers = pendings | read
    resolved: dict[bytes, int] = {}
    if pending_ids:
        _require_locked((transfers[id_] for id_ in pending_ids if id_ in transfers), numbers)
        found = await tx.fetch(rows.READ_RESOLVED, rows.packed(pending_ids))
        resolved = {row["pending_id"]: row["flags"] & RESOLVES for row in found}
    return View(records, transfers, resolved), numbers


def _require_locked(pendings: Iterable[Movement], numbers: dict[bytes, int]) -> None:
    # A pending transfer that was committed between the two reads: its accounts are not locked, and locking them now
    # would break the order.
    if any(pending.debit not in numbers or pending.credit not in numbers for pending in pendings):
        raise Unavailable(
            "database.conflict", "a pending transfer appeared while it was read", "Run the transaction again."
        )


async def _write(tx: Transaction, outcome: Outcome, numbers: dict[bytes, int]) -> None:
    movements = outcome.movements
    if not movements:
        return
    columns, _ = await _while_waiting(
        _end_deadlines(tx, outcome.untimed), lambda: rows.balance_columns(outcome.sheets, numbers)
    )
    # Taken under the locks, so that an account's rows become visible in the order of seq.
    [block] = await tx.fetch("SELECT nextval('ledger.block') AS no")
    first = block["no"] * SEQ_PER_BLOCK
    (numbered, entries), _ = await _while_waiting(
        tx.execute(rows.UPDATE_BALANCES, *columns),
        lambda: (rows.numbered(movements, first), rows.entries(movements, first, numbers)),
    )
    try:
        await tx.copy("ledger.transfer", rows.TRANSFER_COLUMNS, numbered)
    except Conflict as error:
        # Two batches with disjoint accounts brought the same id: neither lock kept them apart, the key did.
        raise Unavailable("database.conflict", error.message, "Run the transaction again.") from error
    await tx.copy("ledger.entry", ("account", "seq"), entries)
    if outcome.timed:
        await tx.copy("ledger.deadline", ("expires_ms", "pending_id"), rows.deadlines(outcome.timed))


async def _end_deadlines(tx: Transaction, pendings: Sequence[Movement]) -> None:
    if pendings:
        expires, ids = zip(*rows.deadlines(pendings), strict=True)
        await tx.execute(rows.DELETE_DEADLINES, list(expires), list(ids))


async def _while_waiting(statement: Awaitable[T], work: Callable[[], U]) -> tuple[U, T]:
    """Send a statement and do some work of our own while the server is busy with it."""

    async def worked() -> U:
        return work()

    # Started in this order: the statement is on its way before the work begins.
    answer, done = await asyncio.gather(statement, worked())
    return done, answer
