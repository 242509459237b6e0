"""Numbers of the market for `/metrics`: nodes, jobs and queues."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from fallow.domain.metrics import Family, counters, gauge, gauges
from fallow.domain.views.market import MarketView
from fallow.services.market.rounds import Rounds

STATES = ("busy", "idle", "paused", "offline", "banned")


class Measuring:
    """Measures the market of this process; a copy that stands by says that, and nothing else.

    `totals` are the latest that everybody is shown.
    """

    def __init__(self, rounds: Rounds, totals: Callable[[], Awaitable[MarketView]]) -> None:
        self._rounds = rounds
        self._totals = totals

    async def measure(self) -> Sequence[Family]:
        """See `fallow.ports.measuring.Measure`."""
        rounds = self._rounds
        leads = rounds.leading.is_set()
        leading = gauge("fallow_market_leading", "Whether this market acts (1) or stands by (0).", leads)
        if not leads:
            return [leading]
        seen, brain = await self._totals(), rounds.brain
        waiting = sum(len(entry.waiting) for entry in brain.jobs.values())
        return [
            leading,
            gauges("fallow_nodes", "Nodes by state.", "state", {state: seen.nodes.get(state, 0) for state in STATES}),
            gauge("fallow_owners", "Accounts with nodes that are busy or idle.", seen.owners),
            gauges("fallow_offered_cores", "Cores that busy and idle nodes offer, and sold ones of them.", "of", {
                "offered": seen.offered.cpu_milli / 1000, "sold": seen.sold.cpu_milli / 1000,
            }),
            gauge("fallow_jobs_open", "Jobs that have not ended.", seen.jobs_open),
            gauge("fallow_items_waiting", "Items of jobs that wait for a machine.", waiting),
            gauge("fallow_leases_open", "Leases that have not ended.", seen.leases_open),
            gauge("fallow_market_inputs_waiting", "What waits for the market's next round.", rounds.inputs_waiting),
            gauge("fallow_market_log_position", "How far the market has read the log of records.", rounds.position),
            gauge("fallow_leases_frozen", "Leases whose money stays where it is: each is a bug.", len(brain.frozen)),
            counters("fallow_records_refused", "Records that changed nothing, by code.", "code", rounds.refused),
        ]  # fmt: skip
