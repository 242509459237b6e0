"""The ledger port in memory, on the same rules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fallow.adapters.memory.database import MemoryTransaction, memory_transaction
from fallow.adapters.memory.ledger_check import check
from fallow.domain.errors import Conflict, TooMuch
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


class MemoryLedger:
    """The ledger port. What it holds lives as long as it does."""

    def __init__(self) -> None:
        self.accounts: dict[bytes, Account] = {}
        self.log: dict[int, Movement] = {}
        """Every movement by its seq, in order."""
        self._transfers: dict[bytes, Movement] = {}
        self._resolved: dict[bytes, int] = {}
        self._open: dict[bytes, Movement] = {}
        """Pending transfers with a timeout that are not resolved yet."""
        self._seq = 0

    async def open_accounts(self, tx: Transaction, accounts: Sequence[Account]) -> None:
        """Create the accounts that do not exist yet; see the port."""
        mine = memory_transaction(tx)
        new: dict[bytes, Account] = {}
        for account in sorted(accounts):
            stored = self.accounts.get(account.id) or new.setdefault(account.id, Account(*account[:4]))
            if stored[:4] != account[:4]:
                raise Conflict(
                    "ledger.account_differs",
                    f"account {account.id.hex()} exists with another ledger, code or flags",
                )
        for account in new.values():
            mine.put(self.accounts, account.id, account)

    async def post(self, tx: Transaction, transfers: Sequence[Transfer], now_ms: int) -> list[Result]:
        """Evaluate a batch serially and write what is accepted; see the port."""
        mine = memory_transaction(tx)
        if len(transfers) > BATCH_MAX:
            raise TooMuch(
                "ledger.batch_too_large", f"a batch holds at most {BATCH_MAX} transfers, not {len(transfers)}"
            )
        ids = {t.id for t in transfers}
        ids.update(t.pending_id for t in transfers if t.pending_id is not None)
        outcome = apply_batch(self._view(ids), transfers, now_ms)
        self._write(mine, outcome)
        return outcome.results

    async def expire(self, tx: Transaction, now_ms: int, limit: int) -> int:
        """Release reservations that are due; see the port."""
        mine = memory_transaction(tx)
        due = sorted(
            (expires, pending.id or b"")
            for pending in self._open.values()
            if (expires := pending.expires_ms) is not None and expires <= now_ms
        )
        ids = [id_ for _, id_ in due[: min(limit, BATCH_MAX)]]
        outcome = expire_due(self._view(ids), [self._transfers[id_] for id_ in ids], now_ms)
        self._write(mine, outcome)
        return len(outcome.movements)

    async def balances(self, tx: Transaction, ids: Sequence[bytes]) -> dict[bytes, Balance]:
        """Return the sums of these accounts; see the port."""
        memory_transaction(tx)
        return {id_: self.accounts[id_].balance for id_ in ids if id_ in self.accounts}

    async def history(self, tx: Transaction, account: bytes, after: int, limit: int) -> list[StatementRow]:
        """Return a page of an account's statement; see the port."""
        memory_transaction(tx)
        page: list[StatementRow] = []
        for seq, movement in self.log.items():
            if len(page) == limit:
                break
            if seq > after and account in (movement.debit, movement.credit):
                released = 0 if movement.pending_id is None else self._transfers[movement.pending_id].amount
                page.append(StatementRow(seq, movement, released))
        return page

    async def latest(self, tx: Transaction, account: bytes, before: int, limit: int) -> list[StatementRow]:
        """Return a page of an account's statement from its end; see the port."""
        rows = await self.history(tx, account, 0, len(self.log))
        return [row for row in rows[::-1] if row.seq < before][:limit]

    async def check(self, tx: Transaction) -> LedgerCheck:
        """Recompute everything from the transfers and compare; see the port."""
        memory_transaction(tx)
        return check(self.accounts, self.log.values(), self._open)

    def _view(self, ids: Iterable[bytes]) -> View:
        transfers = {id_: self._transfers[id_] for id_ in ids if id_ in self._transfers}
        return View(self.accounts, transfers, {id_: self._resolved[id_] for id_ in transfers if id_ in self._resolved})

    def _write(self, tx: MemoryTransaction, outcome: Outcome) -> None:
        for movement in outcome.movements:
            self._seq += 1  # not taken back by a rollback, like a sequence
            tx.put(self.log, self._seq, movement)
            if movement.id is not None:
                tx.put(self._transfers, movement.id, movement)
            if movement.pending_id is not None:
                tx.put(self._resolved, movement.pending_id, movement.flags & RESOLVES)
        for id_, sheet in outcome.sheets.items():
            tx.put(self.accounts, id_, Account(*self.accounts[id_][:4], *sheet.balance()))
        for pending in _named(outcome.timed):
            tx.put(self._open, *pending)
        for id_, _ in _named(outcome.untimed):
            tx.drop(self._open, id_)


def _named(pendings: Iterable[Movement]) -> Iterable[tuple[bytes, Movement]]:
    return ((pending.id, pending) for pending in pendings if pending.id is not None)
