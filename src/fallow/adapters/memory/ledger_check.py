"""The full check of the in-memory ledger: sums the transfers up anew, with no code of the rules."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from fallow.domain.ledger import (
    CREDITS_MUST_NOT_EXCEED_DEBITS,
    DEBITS_MUST_NOT_EXCEED_CREDITS,
    PENDING,
    POST_PENDING,
    Account,
    Balance,
    Fault,
    LedgerCheck,
    Movement,
)


def check(accounts: Mapping[bytes, Account], log: Collection[Movement], timed: Iterable[bytes]) -> LedgerCheck:
    """Compare the stored balances and the open timeouts with the log."""
    totals = _totals(accounts.values())
    faults = [
        Fault("debits_differ_from_credits", ledger.to_bytes(4, "big"), str(sums))
        for ledger, sums in totals.items()
        if sums[:2] != sums[2:]
    ]
    recomputed = _recomputed(log)
    faults += [
        Fault("balance_differs", id_, "the stored sums are not those of the transfers")
        for id_ in sorted(accounts.keys() | recomputed.keys())
        if id_ not in accounts or accounts[id_].balance != tuple(recomputed[id_])
    ]
    faults += [
        Fault("limit_broken", account.id, "the account is beyond its limit")
        for account in sorted(accounts.values())
        if _beyond(account)
    ]
    faults += [
        Fault("deadlines_differ", id_, "the open timeouts are not those of the pending transfers")
        for id_ in sorted(set(timed) ^ _open_timeouts(log))
    ]
    return LedgerCheck(totals, len(log), tuple(faults))


def _totals(accounts: Iterable[Account]) -> dict[int, Balance]:
    sums: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for account in accounts:
        for place, value in enumerate(account.balance):
            sums[account.ledger][place] += value
    return {ledger: Balance(*sums[ledger]) for ledger in sorted(sums)}


def _recomputed(log: Iterable[Movement]) -> dict[bytes, list[int]]:
    sums: dict[bytes, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    amounts = {movement.id: movement.amount for movement in log}
    for movement in log:
        if movement.flags & PENDING:
            pending, posted = movement.amount, 0
        elif movement.pending_id is not None:
            pending = -amounts[movement.pending_id]
            posted = movement.amount if movement.flags & POST_PENDING else 0
        else:
            pending, posted = 0, movement.amount
        for side, first in ((movement.debit, 0), (movement.credit, 2)):
            sums[side][first] += pending
            sums[side][first + 1] += posted
    return sums


def _beyond(account: Account) -> bool:
    debits, credits_ = sum(account.balance[:2]), sum(account.balance[2:])
    return (
        bool(account.flags & DEBITS_MUST_NOT_EXCEED_CREDITS and debits > account.credits_posted)
        or bool(account.flags & CREDITS_MUST_NOT_EXCEED_DEBITS and credits_ > account.debits_posted)
        or min(account.balance) < 0
    )


def _open_timeouts(log: Iterable[Movement]) -> set[bytes]:
    resolved = {movement.pending_id for movement in log}
    return {
        movement.id
        for movement in log
        if movement.timeout_s and movement.id is not None and movement.id not in resolved
    }
