"""What an account may spend in a calendar month (UTC). Pure.

Whenever something is reserved, spent + reserved <= budget holds behind it, to the micro-dollar. What is spent is what
the ledger took of the account's credits for work and metered use, less what came back; it counts in the month in
which it is settled. What is reserved stays so when the budget is lowered, and when a month begins.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, NamedTuple

from fallow.domain.errors import InsufficientFunds

ACCOUNT_BUDGET = "account.budget"
"""Why something does not begin, or go on: the account's budget of the month does not cover it."""

_MONTHS: Final = 12
_MS: Final = 1000


class Budget(NamedTuple):
    """An account's budget, if it has one (`limit_microusd`), and what it spent in `month`.

    `reached` says that something did not begin or go on in this month for want of it.
    """

    month: int = 0
    spent_microusd: int = 0
    limit_microusd: int | None = None
    reached: bool = False

    def at(self, now: int) -> Budget:
        """Return it as it is at a time: a month begins with nothing spent. What a later month counts stays there."""
        month = month_of(now)
        return self if month <= self.month else Budget(month, limit_microusd=self.limit_microusd)

    def covers(self, amount_microusd: int, reserved_microusd: int) -> bool:
        """Whether so much more may be reserved, beside what is."""
        left = self.left(reserved_microusd)
        return left is None or amount_microusd <= max(left, 0)

    def left(self, reserved_microusd: int) -> int | None:
        """What may still be reserved; less than nothing where the budget was lowered, None without one."""
        return None if self.limit_microusd is None else self.limit_microusd - self.spent_microusd - reserved_microusd

    def spend(self, microusd: int) -> Budget:
        """Count what was spent, or came back (less than nothing)."""
        return self._replace(spent_microusd=self.spent_microusd + microusd)


NO_BUDGET: Final = Budget()


def month_of(ms: int) -> int:
    """Number of the month that a time lies in, which grows by one a month."""
    day = datetime.fromtimestamp(ms // _MS, UTC)
    return day.year * _MONTHS + day.month - 1


def month_name(month: int) -> str:
    """Its year and number, for example `2026-11`."""
    year, before = divmod(month, _MONTHS)
    return f"{year:04}-{before + 1:02}"


def begins_at(month: int) -> int:
    """Return when a month begins, in milliseconds since 1970."""
    year, before = divmod(month, _MONTHS)
    return int(datetime(year, before + 1, 1, tzinfo=UTC).timestamp()) * _MS


def refusal(budget: Budget, amount_microusd: int, reserved_microusd: int) -> InsufficientFunds:
    """Say that an account's budget does not cover what would be reserved."""
    left = max(0, budget.left(reserved_microusd) or 0)
    return InsufficientFunds(
        ACCOUNT_BUDGET,
        f"The account's budget for {month_name(budget.month)}, {budget.limit_microusd} micro-US-dollars, leaves {left};"
        f" {amount_microusd} would be reserved.",
        "Raise it: fallow account budget USD. The next month (UTC) begins with all of it.",
    )
