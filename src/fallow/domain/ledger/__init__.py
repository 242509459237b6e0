"""Double entry with TigerBeetle's model: accounts, transfers in one or two phases, linked chains, timeouts.

`model` says what the things are and checks them at the door, `result` names every outcome, `rules` decides. Both
ledger adapters call these rules, so that they exist once.
"""

from __future__ import annotations

from fallow.domain.ledger.model import (
    AMOUNT_MAX,
    BALANCE_MAX,
    BATCH_MAX,
    CREDITS_MUST_NOT_EXCEED_DEBITS,
    DEBITS_MUST_NOT_EXCEED_CREDITS,
    EXPIRED,
    LINKED,
    PENDING,
    POST_PENDING,
    RESOLVES,
    VOID_PENDING,
    Account,
    Balance,
    Fault,
    LedgerCheck,
    Movement,
    StatementRow,
    Transfer,
    account,
    ordered_id,
    post_pending,
    transfer,
    void_pending,
)
from fallow.domain.ledger.refusals import Sheet
from fallow.domain.ledger.result import Result
from fallow.domain.ledger.rules import Outcome, View, apply_batch, expire_due

__all__ = [
    "AMOUNT_MAX",
    "BALANCE_MAX",
    "BATCH_MAX",
    "CREDITS_MUST_NOT_EXCEED_DEBITS",
    "DEBITS_MUST_NOT_EXCEED_CREDITS",
    "EXPIRED",
    "LINKED",
    "PENDING",
    "POST_PENDING",
    "RESOLVES",
    "VOID_PENDING",
    "Account",
    "Balance",
    "Fault",
    "LedgerCheck",
    "Movement",
    "Outcome",
    "Result",
    "Sheet",
    "StatementRow",
    "Transfer",
    "View",
    "account",
    "apply_batch",
    "expire_due",
    "ordered_id",
    "post_pending",
    "transfer",
    "void_pending",
]
