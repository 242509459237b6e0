"""Requests about what accounts and the network itself have and get."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from fallow.domain.calls.base import Person, Request

CREDITED = "settle.credited"
"""Published with an account's address (text) after money came in, or its budget was set."""

BALANCE = "settle.balance"
STATEMENT = "settle.statement"
EARNINGS = "settle.earnings"
SPENDING = "settle.spending"
BUDGET = "settle.budget"
SET_BUDGET = "settle.set_budget"
GRANT = "settle.grant"
FUND = "settle.fund"
LEDGER_CHECK = "settle.check"
AUDIT = "settle.audit"
AUDITED = "settle.audited"
RESERVE = "settle.reserve"
RESERVE_USES = "market.reserve_uses"


class Grant(Request, frozen=True, kw_only=True):
    """Give TEST credits. `id` (32 hex digits) makes the same grant count once."""

    id: Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
    account: str
    amount_microusd: Annotated[int, Meta(ge=1, le=10**15)]


class GiveGrant(Grant, frozen=True, kw_only=True):
    """Give TEST credits for a person; without one the network gives its first."""

    by: Person | None = None


class Fund(Request, frozen=True, kw_only=True):
    """Give TEST credits to the network itself: for its checks (`fee`), or for its `reserve`."""

    id: Annotated[str, Meta(pattern="^[0-9a-f]{32}$", max_length=32)]
    purpose: Literal["fee", "reserve"]
    amount_microusd: Annotated[int, Meta(ge=1, le=10**15)]


class EarningsRef(Request, frozen=True, kw_only=True):
    """What an account earned since a moment (milliseconds since 1970)."""

    account: str
    from_ms: int


class SpendingRef(Request, frozen=True, kw_only=True):
    """What an account spent since a moment (milliseconds since 1970)."""

    account: str
    from_ms: int


class MonthlyBudget(Request, frozen=True, kw_only=True):
    """What an account may spend in a calendar month (UTC); null for as much as it has."""

    budget_microusd: Annotated[int, Meta(ge=0, le=10**15)] | None


class SetBudget(Request, frozen=True, kw_only=True):
    """Set or end an account's budget."""

    account: str
    budget: MonthlyBudget


class BeginAudit(Request, frozen=True, kw_only=True):
    """Have the ledger audited for a person."""

    by: Person | None = None
