"""What a payer can still spend while the money of a round is planned: his credits, within his budget of the month."""

from __future__ import annotations

from collections.abc import Mapping

from fallow.domain.budgets import NO_BUDGET, Budget
from fallow.domain.chart import Credit, Kind, Parts

Available = dict[int, int]


class Purse:
    """Keeps count of what is planned; `budget` is what is to be written when that is done."""

    def __init__(self, available: Available, reserved: int = 0, budget: Budget = NO_BUDGET) -> None:
        self.available = available
        self.reserved = reserved
        self.budget = budget

    @property
    def spendable(self) -> int:
        """Its credits, over all classes."""
        return sum(self.available.values())

    def covers(self, amount_microusd: int) -> bool:
        """Whether the budget allows to reserve so much more."""
        return self.budget.covers(amount_microusd, self.reserved)

    def fell_short(self) -> None:
        """Note that something does not begin, or go on, for want of the budget."""
        self.budget = self.budget._replace(reached=True)

    def hold(self, parts: Parts) -> None:
        """Count what is reserved."""
        for credit, amount in parts:
            self.available[credit] -= amount
            self.reserved += amount

    def settle(self, held: Parts, paid: Mapping[Kind, Mapping[int, int]]) -> None:
        """Count as available again what was held, or kept before, and was neither paid nor kept now."""
        for credit in Credit:
            freed, backed = dict(held).get(credit, 0), paid[Kind.BACKED].get(credit, 0)
            gone = sum(paid[kind].get(credit, 0) for kind in (Kind.INCOME, Kind.FEE, Kind.RESERVE, Kind.KEPT)) - backed
            self.available[credit] = self.available.get(credit, 0) + freed - gone
            self.reserved -= freed
            self.budget = self.budget.spend(gone)

    def refund(self, parts: Parts) -> None:
        """Count what came back from the reserve."""
        for credit, amount in parts:
            self.available[credit] = self.available.get(credit, 0) + amount
            self.budget = self.budget.spend(-amount)
