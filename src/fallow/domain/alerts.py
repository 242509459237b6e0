"""What an account should look at before it costs it work, pay or money: one rule for the page and for who is told.

An alert has an id that stays the same while it holds, so that whoever is told hears of its beginning and of its end
once. What happened at a moment (a job ended) holds for a day.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from fallow.domain.jobs import BUYER_CANCELLED, JobState
from fallow.domain.views.jobs import JobView
from fallow.domain.views.money import BalanceView, BudgetView
from fallow.domain.views.nodes import OwnNodeView
from fallow.domain.views.payouts import PayeeView

ALERTS_MAX: Final = 500
"""Of an account at once; more are not told, so that a fleet that is cut off is one message and not a book."""

SILENT_MS: Final = 5 * 60_000
"""A machine that only starts anew is nobody's worry."""

TOLD_MS: Final = 24 * 3_600_000
"""How long it is told that a job has ended."""

BUDGET_PERCENT: Final = 80


class Alert(msgspec.Struct, frozen=True):
    """One alert. `subject` is the node or job that it is about, "" the account; `name` is what its owner calls it.

    `values` are what its sentence is made of (`fallow.ports.alert_text`); names that end with `_at` are milliseconds
    since 1970, with `_microusd` micro-US-dollars. `once`: it happened, and its end is nothing to tell. `said` is its
    sentence in each language, where a vertical tells it, whose codes nobody else knows.
    """

    id: str
    code: str
    subject: str = ""
    name: str = ""
    values: dict[str, str | int] = {}
    once: bool = False
    said: dict[str, str] = {}


def provider_alerts(nodes: Iterable[OwnNodeView], payee: PayeeView | None, now: int) -> list[Alert]:
    """What may cost a provider work or pay, of his machines by id."""
    found = [] if payee is None or not payee.pending else [_payee_changes(payee)]
    for node in nodes:
        found += _of_node(node, now)
    return found


def buyer_alerts(jobs: Sequence[JobView], balance: BalanceView, budget: BudgetView, now: int) -> list[Alert]:
    """What a buyer should know of his jobs and his money."""
    running = [job for job in jobs if job.state == JobState.RUNNING]
    spendable = sum(balance.spendable.values())
    reserved = sum(job.reserved_microusd for job in running)
    found = _of_budget(budget)
    if reserved > spendable:
        values: dict[str, str | int] = {"spendable_microusd": spendable, "reserved_microusd": reserved}
        found.append(Alert("balance.low", "balance.low", values=values))
    for job in running:
        if job.budget_microusd and job.owed_microusd * 100 >= job.budget_microusd * BUDGET_PERCENT:
            values = {"owed_microusd": job.owed_microusd, "budget_microusd": job.budget_microusd}
            found.append(Alert(f"job.budget:{job.id}", "job.budget", job.id, job.label, values))
    ended = (job for job in jobs if job.ended_at is not None and now - job.ended_at < TOLD_MS)
    found += [_ended(job) for job in ended if job.reason != BUYER_CANCELLED]
    return found


def changes(before: Iterable[Alert], after: Iterable[Alert]) -> tuple[list[Alert], list[Alert]]:
    """Return what has begun and what has ended; what only happened has no end."""
    old, new = {one.id: one for one in before}, {one.id: one for one in after}
    began = [one for key, one in new.items() if key not in old]
    return began, [one for key, one in old.items() if key not in new and not one.once]


def _payee_changes(payee: PayeeView) -> Alert:
    values: dict[str, str | int] = {"to": payee.pending, "from_at": payee.effective_at}
    return Alert(f"payout.changes:{payee.pending}:{payee.effective_at}", "payout.changes", values=values)


def _of_node(view: OwnNodeView, now: int) -> list[Alert]:
    found: list[Alert] = []

    def add(code: str, about: str = "", **values: str | int) -> None:
        key = ":".join((code, view.node, *((about,) if about else ())))
        found.append(Alert(key, code, view.node, view.label, values))

    offer = view.offer
    why = offer.why if offer else ""
    if view.banned_reason:
        add("node.banned", reason=view.banned_reason)
    if view.suspended_until > now:
        add("node.suspended", until_at=view.suspended_until, why=why)
    elif offer and offer.wrong:
        add("node.wrong", count=offer.wrong, why=why)
    if offer and offer.missed:
        add("node.missed", count=offer.missed)
    if offer and offer.state == "offline" and offer.last_seen_at and now - offer.last_seen_at >= SILENT_MS:
        add("node.silent", seen_at=offer.last_seen_at)
    for refused in sorted({one.code for one in view.refused}):
        add("node.refused", refused, record=refused)
    return found


def _of_budget(view: BudgetView) -> list[Alert]:
    """What nears the account's budget of the month, and what has met it; the next month begins without either."""
    budget = view.budget_microusd
    if budget is None:
        return []
    values: dict[str, str | int] = {
        "spent_microusd": view.spent_microusd,
        "budget_microusd": budget,
        "month": view.month,
        "ends_at": view.ends_at,
    }
    near = view.spent_microusd * 100 >= budget * BUDGET_PERCENT
    met = view.reached or view.spent_microusd >= budget
    codes = (("account.budget_near", near), ("account.budget", met))
    return [Alert(f"{code}:{view.month}", code, values=values) for code, holds in codes if holds]


def _ended(job: JobView) -> Alert:
    code = "job.done" if job.state == JobState.DONE else "job.failed"
    return Alert(f"{code}:{job.id}", code, job.id, job.label, {"reason": job.reason}, once=True)
