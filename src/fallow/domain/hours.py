"""Hours of the week, as an owner writes them: `mon-fri 20:00-07:00`, `sat 09:00-24:00`, `daily 01:00-06:00`.

`never` is none of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

from fallow.domain.errors import InvalidInput

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES = 24 * 60
WEEK_MINUTES = 7 * DAY_MINUTES
NEVER = "never"

_RANGE = re.compile(r"(daily|[a-z]{3})(?:-([a-z]{3}))? +(\d{1,2}):(\d{2}) *- *(\d{1,2}):(\d{2})")


class Range(NamedTuple):
    """From `start` to `end` (minutes of the day; `end` is the first minute outside), on each of `days` (0 is Monday).

    With `end` at or before `start` it goes on past midnight, into the day after the one that it belongs to.
    """

    days: frozenset[int]
    start: int
    end: int

    def holds(self, weekday: int, minute: int) -> bool:
        """Whether a minute (of a local day) lies in it."""
        length = (self.end - self.start) % DAY_MINUTES or DAY_MINUTES
        now = weekday * DAY_MINUTES + minute
        return any((now - day * DAY_MINUTES - self.start) % WEEK_MINUTES < length for day in self.days)


def parse_range(text: str) -> Range:
    """Read one range.

    Raises:
        InvalidInput: it is none; the message shows how one looks (`agent.policy_hours`).
    """
    if text.strip().lower() == NEVER:
        return Range(frozenset(), 0, DAY_MINUTES)
    found = _RANGE.fullmatch(text.strip().lower())
    if found is None:
        raise _malformed(text, "it has another form")
    first, last, *times = found.groups()
    hour, minute, end_hour, end_minute = (int(time) for time in times)
    start, end = hour * 60 + minute, end_hour * 60 + end_minute
    if start >= DAY_MINUTES or end > DAY_MINUTES or minute > 59 or end_minute > 59:  # noqa: PLR2004 - of an hour
        raise _malformed(text, "there is no such time")
    if start == end:
        raise _malformed(text, "it begins and ends at the same minute; a whole day is 00:00-24:00")
    return Range(_days(text, first, last), start, end)


def minutes_of(hours: Iterable[str]) -> frozenset[int]:
    """The minutes of the week (0 is Monday 00:00) that lie in any of the ranges. Raises as `parse_range`."""
    return frozenset(
        (day * DAY_MINUTES + start + offset) % WEEK_MINUTES
        for days, start, end in map(parse_range, hours)
        for day in days
        for offset in range((end - start) % DAY_MINUTES or DAY_MINUTES)
    )


def ranges_of(minutes: frozenset[int]) -> Iterator[str]:
    """Write minutes of the week as ranges, each within one day; none are `never`."""
    if not minutes:
        yield NEVER
    edges = sorted(
        {at for minute in minutes for at in (minute, minute + 1) if (at - 1 in minutes) != (at in minutes)}
        | {day * DAY_MINUTES for day in range(8)}
    )
    for start, end in pairwise(edges):
        if start in minutes:
            day, first = divmod(start, DAY_MINUTES)
            yield f"{DAYS[day]} {_time(first)}-{_time(first + end - start)}"


def _time(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _days(text: str, first: str, last: str | None) -> frozenset[int]:
    if first == "daily" and last is None:
        return frozenset(range(7))
    if first not in DAYS or (last or first) not in DAYS:
        raise _malformed(text, f"the days are {', '.join(DAYS)}, or daily")
    begin = DAYS.index(first)
    count = (DAYS.index(last or first) - begin) % 7 + 1
    return frozenset((begin + offset) % 7 for offset in range(count))


def _malformed(text: str, why: str) -> InvalidInput:
    return InvalidInput(
        "agent.policy_hours",
        f"{text[:60]!r} is no range of hours: {why}.",
        "It looks like: mon-fri 20:00-07:00",
    )
