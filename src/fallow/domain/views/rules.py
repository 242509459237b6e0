"""A node's rules, and what was asked of it. Times are milliseconds since 1970 UTC."""

from __future__ import annotations

from fallow.domain.idle_rules import IdleRules, RulesStanding
from fallow.domain.views.base import ErrorView, View


class RulesEventView(View, frozen=True, kw_only=True):
    """A line of the log of what was asked of a node: `what` is asked, taken or refused, and `code` then says why."""

    id: str
    at: int
    account: str
    key_id: str
    what: str
    code: str
    rules: IdleRules


class OwnRulesView(View, frozen=True, kw_only=True):
    """A node's rules, as it says them itself just now, and the latest of what was asked of it, the last first.

    `standing` is None where it says nothing; `trouble` then tells why.
    """

    standing: RulesStanding | None
    trouble: ErrorView | None
    log: list[RulesEventView]
