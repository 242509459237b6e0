"""An account's alerts now, from what the network's services say of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

import msgspec

from fallow.domain import calls
from fallow.domain.alerts import ALERTS_MAX, Alert, buyer_alerts, provider_alerts
from fallow.domain.errors import FallowError, NotFound
from fallow.domain.views.jobs import JobView
from fallow.domain.views.money import BalanceView, BudgetView
from fallow.domain.views.nodes import OwnNodeView
from fallow.domain.views.payouts import PayeeView
from fallow.ports.bus import Bus
from fallow.ports.rpc import call
from fallow.ports.vertical.plugin import Vertical

NODES_MAX: Final = 2000
NODES_A_PAGE: Final = 100
JOBS_MAX: Final = 200
"""The latest of an account's jobs are looked at, and of its machines the first ones."""

VERTICAL_S: Final = 3.0
"""A vertical that hangs must not keep what the others say from anybody."""


class Known(NamedTuple):
    """An account's alerts, and those verticals that did not say theirs: of what these told before nothing has ended."""

    alerts: list[Alert]
    silent: list[str]

    def and_before(self, told: Iterable[Alert]) -> list[Alert]:
        """Return them with what the silent ones told before."""
        return [*self.alerts, *(one for one in told if one.id.partition(":")[0] in self.silent)]

    def and_silent(self) -> list[Alert]:
        """Return them with one for each that is silent."""
        return [*self.alerts, *(Alert(f"{one}:", "vertical.silent", values={"name": one}) for one in self.silent)]


def tellers(verticals: Iterable[Vertical]) -> list[str]:
    """Names of those verticals that are asked, too."""
    return [one.name for one in verticals if one.tells_alerts]


async def alerts_of(bus: Bus, account: str, now: int, verticals: Collection[str]) -> Known:
    """Return them: its machines', what `verticals` tell, then its jobs' and money's, at most `ALERTS_MAX`.

    Ids of what a vertical tells begin with its name and a colon.

    Raises:
        Unavailable: a service does not answer: then nothing is known, and nothing has ended.
    """
    asked = calls.base.AccountRef(account=account, limit=JOBS_MAX)
    jobs = await call(bus, calls.jobs.JOBS, asked, list[JobView])
    balance = await call(bus, calls.money.BALANCE, asked, BalanceView)
    budget = await call(bus, calls.money.BUDGET, asked, BudgetView)
    nodes = await _nodes(bus, account)
    found = provider_alerts(nodes, await _payee(bus, account), now)
    labels = {node.node: node.label for node in nodes}
    silent = []
    for name in verticals:
        subject = calls.verticals.vertical_call(name, calls.verticals.ALERTS)
        try:
            told = await call(bus, subject, asked, list[Alert], timeout_s=VERTICAL_S)
        except FallowError:
            silent.append(name)
            continue
        found += [_of_vertical(name, one, labels.get(one.subject, "")) for one in told]
    return Known([*found, *buyer_alerts(jobs, balance, budget, now)][:ALERTS_MAX], silent)


def _of_vertical(name: str, told: Alert, label: str) -> Alert:
    return msgspec.structs.replace(told, id=f"{name}:{told.id}", name=told.name or label)


async def _nodes(bus: Bus, account: str) -> list[OwnNodeView]:
    found: list[OwnNodeView] = []
    while len(found) < NODES_MAX:
        asked = calls.base.AccountRef(account=account, after=found[-1].node if found else "", limit=NODES_A_PAGE)
        page = await call(bus, calls.nodes.OWN_NODES, asked, list[OwnNodeView])
        if not page:
            break
        found += page
    return found


async def _payee(bus: Bus, account: str) -> PayeeView | None:
    try:
        return await call(bus, calls.payouts.PAYEE, calls.base.AccountRef(account=account), PayeeView)
    except NotFound:  # an account that only ever stood in somebody's request
        return None
