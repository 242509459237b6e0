"""`fallow account budget`: what the account may spend in a calendar month."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from fallow.cli import profiles
from fallow.cli.show import Json, say, show_json
from fallow.cli.units import microusd, usd, when
from fallow.domain.errors import InvalidInput
from fallow.domain.views.money import BudgetView


def budget(
    amount: str | None = None,
    /,
    *,
    none: Annotated[bool, Parameter(name="--none", negative="", help="End it: as much as there are credits.")] = False,
    json: Json = False,
) -> None:
    """Show what your account may spend in a calendar month (UTC) and spent in this one, or set it, in US dollars."""
    if amount is not None and none:
        raise InvalidInput("account.budget_both", "An amount or --none, not both.")
    wanted = None if amount is None else microusd(amount)
    with profiles.connect() as client:
        view = client.budget() if amount is None and not none else client.set_budget(wanted)
    show_json(view) if json else _say(view)


def _say(view: BudgetView) -> None:
    spent, reserved = usd(view.spent_microusd), usd(view.reserved_microusd)
    if view.budget_microusd is None:
        say(f"No budget. Spent in {view.month}: {spent}; reserved: {reserved}.")
        return
    say(f"Budget: {usd(view.budget_microusd)} a month. Spent in {view.month}: {spent}; reserved: {reserved}.")
    if view.reached:
        say(f"Something did not fit into it and did not begin, or go on. It begins anew at {when(view.ends_at)} UTC.")
