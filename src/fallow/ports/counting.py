"""How often something happened in this process, by service and reason, however many reasons strangers think of."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Final

REASONS_MAX: Final = 100
"""Of one service; what comes later counts as `OTHER`. Fallow's own are fewer."""

OTHER: Final = "other"
_REASON = re.compile(r"[a-z][a-z0-9_.]{0,59}")


class Counts:
    """Counters that only grow."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = {}

    def add(self, service: str, reason: str) -> None:
        """Count one. `service` is a word of the code's, `reason` may come from a machine of a stranger."""
        counts = self._counts.setdefault(service, Counter())
        known = reason in counts or (len(counts) < REASONS_MAX and _REASON.fullmatch(reason))
        counts[reason if known else OTHER] += 1

    def counts(self) -> Mapping[str, Mapping[str, int]]:
        """Return how often it was, by service and then by reason."""
        return self._counts
