"""An account's alerts now, from what the network's services say of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from fallow.domain import calls
from fallow.domain.alerts import ALERTS_MAX, Alert, buyer_alerts, provider_alerts
from fallow.domain.errors import NotFound
from fallow.domain.views import BalanceView, JobView, OwnNodeView, PayeeView
from fallow.ports.bus import Bus
from fallow.ports.rpc import call
from fallow.ports.vertical import Vertical

NODES_MAX: Final = 2000
NODES_A_PAGE: Final = 100
JOBS_MAX: Final = 200
"""The latest of an account's jobs are looked at, and of its machines the first ones."""


def tellers(verticals: Iterable[Vertical]) -> list[str]:
    """Names of those verticals that are asked, too."""
    return [one.name for one in verticals if one.tells_alerts]


async def alerts_of(bus: Bus, account: str, now: int, verticals: Collection[str]) -> list[Alert]:
    """Return them: its machines', what `verticals` tell, then its jobs' and money's, at most `ALERTS_MAX`.

    Raises:
        Unavailable: a service does not answer: then nothing is known, and nothing has ended.
    """
    asked = calls.AccountRef(account=account, limit=JOBS_MAX)
    jobs = await call(bus, calls.JOBS, asked, list[JobView])
    balance = await call(bus, calls.BALANCE, asked, BalanceView)
    nodes = await _nodes(bus, account)
    found = provider_alerts(nodes, await _payee(bus, account), now)
    for name in verticals:
        found += await call(bus, calls.vertical_call(name, calls.ALERTS), asked, list[Alert])
    return [*found, *buyer_alerts(jobs, balance, now)][:ALERTS_MAX]


async def _nodes(bus: Bus, account: str) -> list[OwnNodeView]:
    found: list[OwnNodeView] = []
    while len(found) < NODES_MAX:
        asked = calls.AccountRef(account=account, after=found[-1].node if found else "", limit=NODES_A_PAGE)
        page = await call(bus, calls.OWN_NODES, asked, list[OwnNodeView])
        if not page:
            break
        found += page
    return found


async def _payee(bus: Bus, account: str) -> PayeeView | None:
    try:
        return await call(bus, calls.PAYEE, calls.AccountRef(account=account), PayeeView)
    except NotFound:  # an account that only ever stood in somebody's request
        return None
