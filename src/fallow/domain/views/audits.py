"""What audits of the ledger found. Times are milliseconds since 1970 UTC."""

from __future__ import annotations

from fallow.domain.views.base import View


class LedgerCheckView(View, frozen=True, kw_only=True):
    """The ledger's own audit, begun at `at`.

    `sums` has debits minus credits per credit class and is zero everywhere when `ok`.
    """

    ok: bool
    at: int
    sums: dict[str, int]
    transfers: int
    problems: list[str]


class AuditBegunView(View, frozen=True, kw_only=True):
    """An audit that begins at `asked_at` or later is the one that was asked for."""

    asked_at: int


class DifferenceView(View, frozen=True, kw_only=True):
    """Something that does not agree: `code` says of which kind, `subject` names the item.

    `here` is what the ledger or the statement has, `there` what the archive or the chain has; "" is nothing.
    """

    code: str
    subject: str
    here: str
    there: str
    detail: str


class AuditView(View, frozen=True, kw_only=True):
    """The ledger held against the archive and the chain. Amounts are micro-US-dollars of paid credits.

    `deposited` is what came in; of it `circulation` is still credits, and `owed` was paid out or withdrawn. The chain
    says that `claimed` of it were, and what the distributor `held` then; None where there is no chain. `differences`
    are the first of `found`. Where the audit could not be done, `trouble` says why.
    """

    began_at: int
    ended_at: int
    ok: bool
    transfers: int = 0
    epochs: int = 0
    deposited: int = 0
    circulation: int = 0
    owed: int = 0
    claimed: int | None = None
    held: int | None = None
    found: int = 0
    differences: list[DifferenceView] = []
    trouble: str = ""
