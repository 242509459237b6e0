"""What accounts and the network itself have and get. Times are milliseconds since 1970 UTC."""

from __future__ import annotations

from typing import Final

from fallow.domain.subscriptions import Price
from fallow.domain.views.base import View

TEST_CLASS: Final = "granted"
"""The class of credits that nothing backs."""


class BalanceView(View, frozen=True, kw_only=True):
    """An account's credits by class, in micro-US-dollars.

    `reserved` is held for open windows. `kept` was paid for its machines' work that no checkpoint backs yet: it becomes
    earned with the next checkpoint or the end of the work, less the fee, or goes back to the buyer. `spent` is what
    ever left the account, for work or withdrawn; what came back later is not taken off.
    """

    account: str
    spendable: dict[str, int]
    reserved: dict[str, int]
    earned: dict[str, int]
    kept: dict[str, int] = {}
    spent: dict[str, int] = {}

    @property
    def pays_with_test(self) -> bool:
        """Whether it never had anything but TEST credits, which nothing backs, to pay with. They are spent first."""
        parts = (self.spendable, self.reserved, self.spent)
        return not any(amount for part in parts for name, amount in part.items() if name != TEST_CLASS)


class StatementLine(View, frozen=True, kw_only=True):
    """One movement of an account. `amount_microusd` is positive when it came in.

    What is reserved or given back stays the account's: `held_microusd` is by how much that part of it grew, or shrank.
    """

    id: str
    at: int
    kind: str
    credit_class: str
    amount_microusd: int
    ref: str
    held_microusd: int = 0


class SubscriptionView(View, frozen=True, kw_only=True):
    """One subscription. `left_microusd` is what its open window can still cost. `tariff` stays as long as it does."""

    id: str
    state: str
    label: str
    vertical: str
    tariff: dict[str, Price]
    opened_at: int
    ended_at: int | None
    window: int
    window_ends_at: int
    limit_microusd: int
    left_microusd: int
    owed_microusd: int
    settled_microusd: int
    reason: str


class EarnedView(View, frozen=True, kw_only=True):
    """What an account earned from buyers in the hour that began `at`, by class of credits, in micro-US-dollars."""

    at: int
    earned: dict[str, int]


class EarningsView(View, frozen=True, kw_only=True):
    """Hours in which something was earned, the latest first, back to `from_ms`: earlier ones are not `whole`."""

    hours: list[EarnedView]
    from_ms: int
    whole: bool


class SpentView(View, frozen=True, kw_only=True):
    """What an account spent in the hour that began `at`, by class of credits, in micro-US-dollars.

    It is counted when it is settled, for jobs as for what is used by the meter. Below zero, more came back than went.
    """

    at: int
    spent: dict[str, int]


class SpendingView(View, frozen=True, kw_only=True):
    """Hours in which something was spent, the latest first, back to `from_ms`: earlier ones are not `whole`."""

    hours: list[SpentView]
    from_ms: int
    whole: bool


class BudgetView(View, frozen=True, kw_only=True):
    """What an account may spend in the calendar `month` (UTC) that ends at `ends_at`; null: as much as it has.

    `spent_microusd` is what was settled in this month, less what came back; `reserved_microusd` is held for open
    windows. `reached`: something did not begin, or go on, for want of the budget.
    """

    month: str
    ends_at: int
    budget_microusd: int | None
    spent_microusd: int
    reserved_microusd: int
    reached: bool


class PurseView(View, frozen=True, kw_only=True):
    """One of the network's own purses by credit class: what is in it, and what went in and out of it ever."""

    balance: dict[str, int]
    paid_in: dict[str, int]
    paid_out: dict[str, int]


class ReserveUseView(View, frozen=True, kw_only=True):
    """What the reserve paid about a provider's leases that ended for one reason.

    `refunded_microusd` went to their buyers, for results that decide nothing, `made_good_microusd` to the provider, for
    lost work.
    """

    account: str
    reason: str
    leases: int
    refunded_microusd: int
    made_good_microusd: int


class ReserveView(View, frozen=True, kw_only=True):
    """The network's reserve, and what it was used for; `uses` has the largest sums first."""

    purse: PurseView
    uses: list[ReserveUseView]
