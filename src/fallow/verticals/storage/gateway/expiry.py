"""What a bucket's lifecycle rules say is to go now, and when an object will. Pure.

As S3 has it: days are counted from when a version was made, or ceased to be the latest, to the midnight (UTC) after.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from fallow.verticals.storage.client.store import Begun, Entry
from fallow.verticals.storage.core.tariff import DAY_MS
from fallow.verticals.storage.gateway.lifecycle import LAST_MS, LifecycleRule

Kind = Literal["latest", "older", "marker"]


class Due(NamedTuple):
    """A version that is to go: the latest as the bucket's versioning says, others for good."""

    entry: Entry
    kind: Kind


def due_ms(from_ms: int, days: int) -> int:
    """The first midnight when so many days are over; the last one that has a date, where that has none."""
    return min(-(-(from_ms + days * DAY_MS) // DAY_MS) * DAY_MS, LAST_MS)


def prefixes(rules: Iterable[LifecycleRule]) -> list[str]:
    """Beginnings of all names that enabled rules can be about; none begins with another."""
    found: list[str] = []
    for prefix in sorted({rule.prefix for rule in rules if rule.enabled}):
        if not (found and prefix.startswith(found[-1])):
            found.append(prefix)
    return found


def is_of_versions(rule: LifecycleRule) -> bool:
    """Whether a rule has versions go, and not uploads alone."""
    return bool(rule.days or rule.at_ms or rule.markers or rule.old_days)


def goes_at(rules: Iterable[LifecycleRule], entry: Entry) -> tuple[int, str] | None:
    """When the latest version of an object will go, and by which rule; None: it stays."""
    times = [(_at(rule, entry), rule.id) for rule in rules if (rule.days or rule.at_ms) and _is_about(rule, entry)]
    return min(times, default=None)


def is_left(rules: Iterable[LifecycleRule], upload: Begun, now_ms: int) -> bool:
    """Whether an upload in parts is to be given up; a rule that asks for tags is about no upload."""
    return any(
        rule.enabled
        and rule.parts_days
        and not rule.tags
        and upload.key.startswith(rule.prefix)
        and due_ms(upload.made_ms, rule.parts_days) <= now_ms
        for rule in rules
    )


class Judge:
    """Goes through the versions of a bucket as a list has them: by name, later versions first."""

    def __init__(self, rules: Sequence[LifecycleRule], now_ms: int) -> None:
        self._rules = rules
        self._now_ms = now_ms
        self._newer: Entry | None = None
        self._older_seen = 0
        self._mark: Entry | None = None
        """A delete marker that is the latest, and of which nothing else of its name was seen so far."""

    def take(self, entry: Entry) -> list[Due]:
        """Judge the next version; a marker is judged with the one behind it."""
        newer = self._newer if self._newer is not None and self._newer.key == entry.key else None
        found = [] if newer is not None else self.end()
        self._newer = entry
        if newer is None:
            self._older_seen = 0
            self._mark = entry if entry.marker else None
            return [*found, *self._latest(entry)]
        self._mark = None
        self._older_seen += 1
        return self._older(entry, newer)

    def end(self) -> list[Due]:
        """Judge what waited for another version of its name."""
        mark, self._mark = self._mark, None
        if mark is None or not any(self._drops(rule, mark) for rule in self._rules):
            return []
        return [Due(mark, "marker")]

    def _latest(self, entry: Entry) -> list[Due]:
        if entry.marker:
            return []
        at = goes_at(self._rules, entry)
        return [Due(entry, "latest")] if at is not None and at[0] <= self._now_ms else []

    def _older(self, entry: Entry, newer: Entry) -> list[Due]:
        gone = any(
            rule.old_days
            and self._older_seen > rule.old_kept
            and _is_about(rule, entry)
            and due_ms(newer.made_ms, rule.old_days) <= self._now_ms
            for rule in self._rules
        )
        return [Due(entry, "older")] if gone else []

    def _drops(self, rule: LifecycleRule, mark: Entry) -> bool:
        """Whether a rule has a marker go that nothing is behind: at once, or when it is as old as objects become."""
        is_old = bool(rule.days or rule.at_ms) and _at(rule, mark) <= self._now_ms
        return (rule.markers or is_old) and _is_about(rule, mark)


def _at(rule: LifecycleRule, entry: Entry) -> int:
    return due_ms(entry.made_ms, rule.days) if rule.days else rule.at_ms


def _is_about(rule: LifecycleRule, entry: Entry) -> bool:
    """Whether a rule is about a version. One that asks for tags or sizes is about no delete marker: it has none."""
    if not (rule.enabled and entry.key.startswith(rule.prefix)):
        return False
    if entry.marker:
        return not rule.tags and rule.larger is None and rule.smaller is None
    return (
        rule.tags.items() <= entry.marks.tags.items()
        and (rule.larger is None or entry.size > rule.larger)
        and (rule.smaller is None or entry.size < rule.smaller)
    )
