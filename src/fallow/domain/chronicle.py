"""What each hour brought: the most nodes that were there at once, and the jobs that have ended by then. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from fallow.domain.jobs import JobState

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
DAY_HOURS = 24
MONTH_HOURS = 30 * DAY_HOURS
HOURS_KEPT = MONTH_HOURS + 1
"""The first of them says what there was before the month."""


class Hour(NamedTuple):
    """One hour: the most `nodes` in it (None: nobody counted), and the jobs that ended up to its end since ever.

    Because jobs are added up through all hours, what ended between two of them is a difference, and no sum.
    """

    nodes: int | None = None
    done: int = 0
    failed: int = 0
    cancelled: int = 0

    def less(self, before: Hour) -> Hour:
        """Return the jobs that ended since the end of an earlier hour."""
        return Hour(
            done=self.done - before.done,
            failed=self.failed - before.failed,
            cancelled=self.cancelled - before.cancelled,
        )


class Chronicle:
    """The latest hours, by their number since 1970 (UTC). An hour of which nothing is known is not among them."""

    def __init__(self, hours: Mapping[int, Hour]) -> None:
        self.hours = dict(sorted(hours.items()))

    def ended(self, outcome: JobState, now: int) -> int:
        """Count a job that ended; returns the hour that changed."""
        at, hour = self._open(now)
        return self._put(at, hour._replace(**{outcome.value: getattr(hour, outcome.value) + 1}))

    def counted(self, nodes: int, now: int) -> int | None:
        """Note how many nodes are there; returns the hour that changed, if any did."""
        at, hour = self._open(now)
        if hour.nodes is not None and nodes <= hour.nodes:
            return None
        return self._put(at, hour._replace(nodes=nodes))

    def jobs(self, now: int, hours: int | None = None) -> Hour:
        """Return the jobs that ended in the hour that runs and those before it, so many together; or ever."""
        latest = self._until(now // HOUR_MS)
        return latest if hours is None else latest.less(self._until(now // HOUR_MS - hours))

    def nodes_by_day(self, now: int, days: int) -> dict[int, int]:
        """Return the most nodes of the latest days, by their number since 1970 (UTC), of those that were counted."""
        most: dict[int, int] = {}
        for at, hour in self.hours.items():
            day = at // DAY_HOURS
            if hour.nodes is not None and day > now // DAY_MS - days:
                most[day] = max(most.get(day, 0), hour.nodes)
        return most

    def _open(self, now: int) -> tuple[int, Hour]:
        """Return the hour that runs, as far as it is known; none before the latest one changes any more."""
        latest = next(reversed(self.hours), 0)
        at = max(now // HOUR_MS, latest)
        return at, self.hours.get(at) or self._until(at)._replace(nodes=None)

    def _until(self, at: int) -> Hour:
        """Return what was known at the end of an hour."""
        return next((hour for one, hour in reversed(self.hours.items()) if one <= at), Hour())

    def _put(self, at: int, hour: Hour) -> int:
        self.hours[at] = hour
        if len(self.hours) > HOURS_KEPT:
            del self.hours[next(iter(self.hours))]
        return at
