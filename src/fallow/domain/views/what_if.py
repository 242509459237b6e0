"""What epochs had been under other rules. Times are milliseconds since 1970 UTC."""

from __future__ import annotations

from fallow.domain.views.base import View
from fallow.domain.views.epochs import NetworkLineView


class SumsView(View, frozen=True, kw_only=True):
    """What some lines of epochs earned, and what of that and of earlier pay became owed meanwhile.

    What is earned and not owed is held, or vests. Amounts of the token are texts, in its smallest unit.
    """

    usage_microusd: int
    usage_owed_microusd: int
    incentive: str
    incentive_owed: str


class GroupView(View, frozen=True, kw_only=True):
    """A vertical, or an account: what it earned, and what it would have earned under other rules."""

    name: str
    was: SumsView
    then: SumsView


class WhatIfEpochView(View, frozen=True, kw_only=True):
    """A closed epoch as it was, and as it would have been had other rules held from the first one asked for on."""

    epoch: int
    until_ms: int
    was: NetworkLineView
    then: NetworkLineView
    verticals: list[GroupView]


class WhatIfView(View, frozen=True, kw_only=True):
    """What other rules come to over all epochs that were asked for.

    `accounts` are those with the largest differences, of the `accounts_changed` that have any. `file` holds these rules
    for the setting `rewards`. `mint_max` is how many units of the token they can come to owe in an epoch at most.
    """

    accounts: list[GroupView]
    accounts_changed: int
    file: str
    mint_max: str
