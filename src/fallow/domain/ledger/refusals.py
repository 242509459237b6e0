"""Why a transfer is not applied: limits of accounts, contradictions to its pending transfer, an id used before."""

from __future__ import annotations

from collections.abc import Mapping

from fallow.domain.ledger.model import (
    BALANCE_MAX,
    CREDITS_MUST_NOT_EXCEED_DEBITS,
    DEBITS_MUST_NOT_EXCEED_CREDITS,
    PENDING,
    RESOLVES,
    VOID_PENDING,
    Account,
    Balance,
    Movement,
    Transfer,
)
from fallow.domain.ledger.result import Result


class Sheet:
    """An account's sums while a batch is evaluated: the only mutable thing here, one per account and batch."""

    __slots__ = ("credits_pending", "credits_posted", "debits_pending", "debits_posted", "flags", "ledger")

    def __init__(self, account: Account) -> None:
        (
            _,
            self.ledger,
            _,
            self.flags,
            self.debits_pending,
            self.debits_posted,
            self.credits_pending,
            self.credits_posted,
        ) = account

    def balance(self) -> Balance:
        """The sums as a record."""
        return Balance(self.debits_pending, self.debits_posted, self.credits_pending, self.credits_posted)


def limit_refusal(  # noqa: PLR0911 - one return per rule, in their order of precedence
    debtor: Sheet, creditor: Sheet, ledger: int, amount: int
) -> Result | None:
    """Why the two accounts do not allow a first phase of `amount`; None when they do."""
    if not debtor.ledger == creditor.ledger == ledger:
        if debtor.ledger != creditor.ledger:
            return Result.ACCOUNTS_MUST_HAVE_THE_SAME_LEDGER
        return Result.TRANSFER_MUST_HAVE_THE_SAME_LEDGER_AS_ACCOUNTS
    debits = debtor.debits_pending + debtor.debits_posted + amount
    if debits > BALANCE_MAX:
        return Result.OVERFLOWS_DEBITS
    received = creditor.credits_pending + creditor.credits_posted + amount
    if received > BALANCE_MAX:
        return Result.OVERFLOWS_CREDITS
    if debtor.flags & DEBITS_MUST_NOT_EXCEED_CREDITS and debits > debtor.credits_posted:
        return Result.EXCEEDS_CREDITS
    if creditor.flags & CREDITS_MUST_NOT_EXCEED_DEBITS and received > creditor.debits_posted:
        return Result.EXCEEDS_DEBITS
    return None


def mismatch(transfer: Transfer, pending: Movement) -> Result | None:  # noqa: PLR0911 - as above
    """Where a second phase contradicts the pending transfer that it names; None when it does not."""
    _, debit, credit, amount, ledger, code, flags, _, _, _ = transfer
    if not pending.flags & PENDING:
        return Result.PENDING_TRANSFER_NOT_PENDING
    if debit and debit != pending.debit:
        return Result.PENDING_TRANSFER_HAS_DIFFERENT_DEBIT_ACCOUNT_ID
    if credit and credit != pending.credit:
        return Result.PENDING_TRANSFER_HAS_DIFFERENT_CREDIT_ACCOUNT_ID
    if ledger and ledger != pending.ledger:
        return Result.PENDING_TRANSFER_HAS_DIFFERENT_LEDGER
    if code and code != pending.code:
        return Result.PENDING_TRANSFER_HAS_DIFFERENT_CODE
    if amount is None or amount == pending.amount:
        return None
    if amount > pending.amount:
        return Result.EXCEEDS_PENDING_TRANSFER_AMOUNT
    return Result.PENDING_TRANSFER_HAS_DIFFERENT_AMOUNT if flags & VOID_PENDING else None


def repeated(transfer: Transfer, existing: Movement, known: Mapping[bytes, Movement]) -> Result:
    """Compare a transfer with the accepted one of the same id; the first field that differs names the result.

    `known` holds the pending transfer of a second phase. What a second phase leaves open (accounts, ledger, code,
    the whole amount) equals whatever it was resolved to.
    """
    second = bool(transfer.flags & RESOLVES)
    checks = (
        (transfer.flags == existing.flags, Result.EXISTS_WITH_DIFFERENT_FLAGS),
        (transfer.pending_id == existing.pending_id, Result.EXISTS_WITH_DIFFERENT_PENDING_ID),
        (transfer.timeout_s == existing.timeout_s, Result.EXISTS_WITH_DIFFERENT_TIMEOUT),
        (
            transfer.debit == existing.debit or (second and not transfer.debit),
            Result.EXISTS_WITH_DIFFERENT_DEBIT_ACCOUNT_ID,
        ),
        (
            transfer.credit == existing.credit or (second and not transfer.credit),
            Result.EXISTS_WITH_DIFFERENT_CREDIT_ACCOUNT_ID,
        ),
        (_amount_asked(transfer, known) == existing.amount, Result.EXISTS_WITH_DIFFERENT_AMOUNT),
        (transfer.ref == existing.ref, Result.EXISTS_WITH_DIFFERENT_REF),
        (
            transfer.ledger == existing.ledger or (second and not transfer.ledger),
            Result.EXISTS_WITH_DIFFERENT_LEDGER,
        ),
        (
            transfer.code == existing.code or (second and not transfer.code),
            Result.EXISTS_WITH_DIFFERENT_CODE,
        ),
    )
    return next((result for same, result in checks if not same), Result.EXISTS)


def _amount_asked(transfer: Transfer, known: Mapping[bytes, Movement]) -> int | None:
    if transfer.amount is not None:
        return transfer.amount
    pending = known.get(transfer.pending_id or b"")
    return None if pending is None else pending.amount
