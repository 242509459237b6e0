"""What leaves the network: to whom earnings go, and withdrawals. Times are milliseconds since 1970 UTC."""

from __future__ import annotations

from fallow.domain.views.base import View


class PayeeView(View, frozen=True, kw_only=True):
    """To whom an account's earnings go now, and to whom from `effective_at` on, beginning with the epoch after.

    `pending` is "" where no change waits.
    """

    account: str
    paid_to: str
    pending: str = ""
    effective_at: int = 0


class RedirectionView(View, frozen=True, kw_only=True):
    """An account's signature (hex) that lets claims of its own be paid to `recipient`."""

    account: str
    recipient: str
    signature: str


class WithdrawalView(View, frozen=True, kw_only=True):
    """Paid credits that have left an account. The root of the epoch in which it is recorded owes them to `to`.

    `transfer` is the ledger's own id of it, which its record in the archive names.
    """

    id: str
    account: str
    to: str
    amount_microusd: int
    transfer: str
