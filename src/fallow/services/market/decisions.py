"""What a round has decided, for the network's signed records: money that moved for leases, what checks have shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from fallow.domain.chart import NETWORK, Kind
from fallow.domain.decisions import Decision
from fallow.domain.facts import LeaseSettled, Moved
from fallow.domain.leases import Lease, LeaseState
from fallow.domain.verification import INCONCLUSIVE, WRONG_RESULT
from fallow.services.market.changes import Changes
from fallow.services.market.entry import Entry

PARTS = {
    Kind.INCOME: "income",
    Kind.FEE: "fee",
    Kind.RESERVE: "reserve",
    Kind.REFUND: "refunded",
    Kind.LOST: "made_good",
}


def decided(changes: Changes, jobs: Mapping[str, Entry], now: int) -> list[Decision]:
    """Return the decisions of a round: one a lease that is over or whose money moved, and one a check.

    `jobs` are those that are open; what ended in this round is among its changes.
    """

    def vertical(lease: Lease) -> str:
        job = changes.jobs.get(lease.job) or jobs[lease.job].job
        return job.order.vertical

    settled = [
        Decision(now, _settled(lease, vertical(lease), changes.moved.get(lease.id)))
        for lease in changes.leases.values()
        if lease.state is LeaseState.ENDED or lease.id in changes.moved
    ]
    return settled + changes.shown


def _settled(lease: Lease, vertical: str, moved: Counter[tuple[int, Kind]] | None) -> LeaseSettled:
    over = lease.state is LeaseState.ENDED
    return LeaseSettled(
        vertical=vertical,
        lease=lease.id,
        node=lease.node,
        payee=lease.payee,
        payer=lease.payer,
        resources=lease.resources,
        price_microusd_per_hour=lease.price_microusd_per_hour,
        spot=lease.spot,
        checks=lease.payer == NETWORK,
        window=lease.window,
        charged_ms=lease.charged_ms,
        moved=_moved(moved) if moved else [],
        final=over,
        ok=over and lease.ok and lease.reason not in {WRONG_RESULT, INCONCLUSIVE},
        reason=lease.reason if over else "",
        caused_by=lease.caused_by if over else "",
    )


def _moved(moved: Counter[tuple[int, Kind]]) -> list[Moved]:
    by_credit: dict[int, dict[str, int]] = {}
    for (credit, kind), amount in (+moved).items():
        by_credit.setdefault(int(credit), {})[PARTS[kind]] = amount
    return [Moved(credit=credit, **parts) for credit, parts in sorted(by_credit.items())]
