"""The rules of the ledger, evaluated serially, without clock or storage.

The caller shows what is (a `View`: the touched accounts, the transfers with these ids, how pendings were resolved),
the rules answer what happens (an `Outcome`). Nothing that was passed in is changed.

Source: TigerBeetle's state machine (create_transfers), with three differences that docs/adr/0003-ledger.md explains:
`exists` does not break a chain, an id whose transfer failed may be used again, and the whole of a pending amount is
asked for with None.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from fallow.domain.ledger.model import (
    EXPIRED,
    LINKED,
    PENDING,
    POST_PENDING,
    RESOLVES,
    VOID_PENDING,
    Account,
    Movement,
    Transfer,
)
from fallow.domain.ledger.refusals import Sheet, limit_refusal, mismatch, repeated
from fallow.domain.ledger.result import Result

_OK = Result.OK
_RESOLVED_BY = {
    POST_PENDING: Result.PENDING_TRANSFER_ALREADY_POSTED,
    VOID_PENDING: Result.PENDING_TRANSFER_ALREADY_VOIDED,
    EXPIRED: Result.PENDING_TRANSFER_EXPIRED,
}


class View(NamedTuple):
    """What the rules need to know of the ledger before a batch.

    Complete for the batch: every account that it names or that one of its pendings names, every accepted transfer
    whose id it names (as id or as pending_id), and for each of those pendings the flags of what resolved it.
    """

    accounts: Mapping[bytes, Account]
    transfers: Mapping[bytes, Movement]
    resolved: Mapping[bytes, int]


class Outcome(NamedTuple):
    """What a batch does.

    `sheets` holds the new sums of every account that moved, and may hold others that were looked at; `timed` the new
    pending transfers that carry a timeout and are still open; `untimed` those from before the batch whose timeout no
    longer matters.
    """

    results: list[Result]
    movements: list[Movement]
    sheets: dict[bytes, Sheet]
    timed: list[Movement]
    untimed: list[Movement]


def apply_batch(view: View, transfers: Sequence[Transfer], now_ms: int) -> Outcome:
    """Evaluate transfers one after the other; each linked chain happens as a whole or not at all.

    `now_ms` is wall time in milliseconds: it stamps what is accepted and decides what has expired.
    """
    batch = _Batch(view, now_ms)
    results: list[Result] = []
    step = batch.step
    index, count = 0, len(transfers)
    while index < count:
        if transfers[index].flags & LINKED:
            end = _chain_end(transfers, index)
            results += batch.chain(transfers[index:end])
            index = end
        else:
            results.append(step(transfers[index]))
            index += 1
    return batch.outcome(results)


def expire_due(view: View, pendings: Iterable[Movement], now_ms: int) -> Outcome:
    """Release the reservations among `pendings` that are due and still open, in the order given."""
    batch = _Batch(view, now_ms)
    for pending in pendings:
        due = pending.expires_ms
        if pending.id is not None and pending.id not in batch.resolved and due is not None and due <= now_ms:
            batch.resolve(pending, None, 0, EXPIRED, b"")
    return batch.outcome([])


class _Batch:
    __slots__ = ("accounts", "known", "movements", "now_ms", "resolved", "sheets", "view")

    def __init__(self, view: View, now_ms: int) -> None:
        self.view = view
        self.now_ms = now_ms
        self.accounts = view.accounts
        self.sheets: dict[bytes, Sheet] = {}
        self.known = dict(view.transfers)
        self.resolved = dict(view.resolved)
        self.movements: list[Movement] = []

    def chain(self, transfers: Sequence[Transfer]) -> list[Result]:
        """Evaluate one chain; the first that fails gets its own code, the others `linked_event_failed`."""
        mark = len(self.movements)
        results: list[Result] = []
        for transfer in transfers:
            is_open = transfer.flags & LINKED and len(results) == len(transfers) - 1
            result = Result.LINKED_EVENT_CHAIN_OPEN if is_open else self.step(transfer)
            if result is not _OK and not result.ok:
                break
            results.append(result)
        else:
            return results
        self._undo(mark)
        culprit = len(results)
        results = [Result.LINKED_EVENT_FAILED] * len(transfers)
        if transfers[-1].flags & LINKED:
            results[-1] = Result.LINKED_EVENT_CHAIN_OPEN
        results[culprit] = result
        return results

    def step(self, transfer: Transfer) -> Result:
        """Evaluate one transfer and, where it is allowed, apply it."""
        id_, debit, credit, amount, ledger, _, flags, _, _, _ = transfer
        existing = self.known.get(id_)
        if existing is not None:
            return repeated(transfer, existing, self.known)
        if flags & RESOLVES:
            return self._second_phase(transfer)
        debtor = self.sheets.get(debit) or self._open(debit)
        if debtor is None:
            return Result.DEBIT_ACCOUNT_NOT_FOUND
        creditor = self.sheets.get(credit) or self._open(credit)
        if creditor is None:
            return Result.CREDIT_ACCOUNT_NOT_FOUND
        if amount is None:
            raise ValueError("only a second phase may leave its amount open; build transfers with transfer()")
        refusal = limit_refusal(debtor, creditor, ledger, amount)
        if refusal is not None:
            return refusal
        if flags & PENDING:
            debtor.debits_pending += amount
            creditor.credits_pending += amount
        else:
            debtor.debits_posted += amount
            creditor.credits_posted += amount
        self.known[id_] = movement = Movement(*transfer, self.now_ms)  # type: ignore[arg-type] # amount is an int here
        self.movements.append(movement)
        return _OK

    def resolve(self, pending: Movement, id_: bytes | None, amount: int, flags: int, ref: bytes) -> None:
        """End a reservation and pay `amount` of it. The caller has checked that this is allowed."""
        if pending.id is None:
            raise ValueError("an expiry cannot be resolved")
        kept = amount if flags & POST_PENDING else pending.amount
        movement = Movement(
            id_,
            pending.debit,
            pending.credit,
            kept,
            pending.ledger,
            pending.code,
            flags,
            pending.id,
            0,
            ref,
            self.now_ms,
        )
        self._shift(pending, -pending.amount, amount)
        self.resolved[pending.id] = flags
        if id_ is not None:
            self.known[id_] = movement
        self.movements.append(movement)

    def outcome(self, results: list[Result]) -> Outcome:
        """Sum up what happened."""
        movements, before, resolved = self.movements, self.view.transfers, self.resolved
        timed = [m for m in movements if m.timeout_s and m.id not in resolved]
        ended = [before[m.pending_id] for m in movements if m.pending_id is not None and m.pending_id in before]
        return Outcome(results, movements, self.sheets, timed, [pending for pending in ended if pending.timeout_s])

    def _open(self, id_: bytes) -> Sheet | None:
        account = self.accounts.get(id_)
        if account is None:
            return None
        self.sheets[id_] = sheet = Sheet(account)
        return sheet

    def _second_phase(self, transfer: Transfer) -> Result:
        pending = self.known.get(transfer.pending_id or b"")
        if pending is None:
            return Result.PENDING_TRANSFER_NOT_FOUND
        refusal = mismatch(transfer, pending) or self._closed(pending)
        if refusal is not None:
            return refusal
        amount = pending.amount if transfer.amount is None else transfer.amount
        paid = amount if transfer.flags & POST_PENDING else 0
        self.resolve(pending, transfer.id, paid, transfer.flags, transfer.ref)
        return _OK

    def _closed(self, pending: Movement) -> Result | None:
        by = self.resolved.get(pending.id or b"")
        if by is not None:
            return _RESOLVED_BY[by & RESOLVES]
        due = pending.expires_ms
        return Result.PENDING_TRANSFER_EXPIRED if due is not None and due <= self.now_ms else None

    def _shift(self, parties: Movement, pending: int, posted: int) -> None:
        for side in (parties.debit, parties.credit):
            if side not in self.sheets and self._open(side) is None:
                raise ValueError("the view lacks an account of a pending transfer")
        debtor, creditor = self.sheets[parties.debit], self.sheets[parties.credit]
        debtor.debits_pending += pending
        debtor.debits_posted += posted
        creditor.credits_pending += pending
        creditor.credits_posted += posted

    def _undo(self, mark: int) -> None:
        """Take back every movement since `mark`, the last one first."""
        for movement in reversed(self.movements[mark:]):
            amount = movement.amount
            if movement.flags & RESOLVES:
                pending_id = movement.pending_id or b""
                reserved = self.known[pending_id].amount
                self._shift(movement, reserved, -amount if movement.flags & POST_PENDING else 0)
                del self.resolved[pending_id]
            elif movement.flags & PENDING:
                self._shift(movement, -amount, 0)
            else:
                self._shift(movement, 0, -amount)
            if movement.id is not None:
                del self.known[movement.id]
        del self.movements[mark:]


def _chain_end(transfers: Sequence[Transfer], start: int) -> int:
    """One past the last transfer of the chain that begins at `start`."""
    end = start
    while end < len(transfers) and transfers[end].flags & LINKED:
        end += 1
    return min(end + 1, len(transfers))
