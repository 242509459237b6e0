"""What an account may spend in a calendar month (UTC). Pure.

Whenever something is reserved, spent + reserved <= budget holds behind it, to the micro-dollar. What is spent is what
the ledger took of the account's credits for work and metered use, less what came back; it counts in the month in
which it is settled. What is reserved stays so when the budget is lowered, and when a month begins.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from fallow.domain.errors import InsufficientFunds
from fallow.domain.money import dollars

ACCOUNT_BUDGET = "account.budget"
"""Why something does not begin, or go on: the account's budget of the month does not cover it."""

_MONTHS: Final = 12
_DAY_MS: Final = 86_400_000
_MONTH_MS: Final = 2_629_746_000
"""The mean of four hundred years, after which the calendar begins anew."""

_EPOCH_DAY: Final = 719_468
"""Days from the first of March of the year 0 to the first of January 1970."""


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
    month = 1970 * _MONTHS + ms // _MONTH_MS
    while begins_at(month) > ms:
        month -= 1
    while begins_at(month + 1) <= ms:
        month += 1
    return month


def month_name(month: int) -> str:
    """Its year and number, for example `2026-11`."""
    year, before = divmod(month, _MONTHS)
    return f"{year:04}-{before + 1:02}"


def begins_at(month: int) -> int:
    """Return when a month begins, in milliseconds since 1970."""
    # Years are taken to begin in March: a leap day is their last, and each five months have 31, 30, 31, 30, 31 days.
    year, after_march = divmod(month - 2, _MONTHS)
    days = 365 * year + year // 4 - year // 100 + year // 400 + (153 * after_march + 2) // 5
    return (days - _EPOCH_DAY) * _DAY_MS


def refusal(budget: Budget, amount_microusd: int, reserved_microusd: int) -> InsufficientFunds:
    """Say that an account's budget does not cover what would be reserved."""
    left = max(0, budget.left(reserved_microusd) or 0)
    return InsufficientFunds(
        ACCOUNT_BUDGET,
        f"The account's budget for {month_name(budget.month)}, {dollars(budget.limit_microusd or 0)}, leaves"
        f" {dollars(left)}; {dollars(amount_microusd)} would be reserved.",
        "Raise it: fallow account budget USD. The next month (UTC) begins with all of it.",
    )
