"""The ledger: double entry inside the caller's own transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from fallow.domain.ledger import Account, Balance, LedgerCheck, Result, StatementRow, Transfer
from fallow.ports.database import Transaction

SEQ_END: Final = 2**63 - 1
"""Behind every row."""


class Ledger(Protocol):
    """Accounts and immutable transfers; the rules are in `fallow.domain.ledger`.

    Every method acts inside `tx`: what it does stands or falls with the rest of that transaction. `now_ms` is wall
    time in milliseconds. Posting locks the accounts that the batch touches until the transaction ends, in one fixed
    order; so put all transfers of a transaction into one batch. Two batches in one transaction may meet another
    transaction's locks in the wrong order, and then one of the two ends with Unavailable("database.conflict").
    """

    async def open_accounts(self, tx: Transaction, accounts: Sequence[Account]) -> None:
        """Create the accounts that do not exist yet, with zero balances.

        Raises:
            Conflict: `ledger.account_differs`: one exists with another ledger, code or flags. Nothing is created.
        """
        ...

    async def post(self, tx: Transaction, transfers: Sequence[Transfer], now_ms: int) -> list[Result]:
        """Evaluate a batch serially and write what is accepted; one result per transfer, in the same order.

        A refused transfer raises nothing: read its result. The same batch again answers `exists` for what was
        accepted and changes nothing.

        Raises:
            TooMuch: `ledger.batch_too_large`: more than BATCH_MAX transfers.
            Unavailable: `database.conflict`: it met another transaction that used the same ids; try again.
        """
        ...

    async def expire(self, tx: Transaction, now_ms: int, limit: int) -> int:
        """Release at most `limit` reservations whose timeout has passed, the longest overdue first.

        Returns how many it released; call again until it is 0. At most BATCH_MAX are done at once.
        """
        ...

    async def balances(self, tx: Transaction, ids: Sequence[bytes]) -> dict[bytes, Balance]:
        """Return the sums of these accounts; an account that does not exist is absent."""
        ...

    async def history(self, tx: Transaction, account: bytes, after: int, limit: int) -> list[StatementRow]:
        """Return at most `limit` rows of an account's statement with `seq` above `after`, the newest last.

        Rows of one account appear in the order of their `seq`, none is ever inserted below one that was visible: a
        reader can follow an account by its last `seq`. Start with 0.
        """
        ...

    async def latest(self, tx: Transaction, account: bytes, before: int, limit: int) -> list[StatementRow]:
        """Return at most `limit` rows of an account's statement with `seq` below `before`, the newest first.

        Start with `SEQ_END`.
        """
        ...

    async def check(self, tx: Transaction) -> LedgerCheck:
        """Recompute everything from the transfers and compare: slow, reads the whole ledger.

        Faults: `debits_differ_from_credits` (per ledger, posted and pending), `balance_differs` (stored and
        recomputed), `limit_broken` (a flagged account), `entries_differ` (the account history does not list a
        transfer exactly twice), `deadlines_differ` (an open timeout that nothing will end, or the reverse).
        """
        ...
