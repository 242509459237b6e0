"""What the network pays for results that it orders itself, pure: DESIGN rule 8, bounded in the manner of rule 9.

Checks, canaries and re-runs of a buyer's work are paid from the fees that count for him (`fallow.domain.reserve`): who
orders work in league with those who check it gets no more out than he paid in, and takes nothing from anybody else. For
what these fees do not cover yet a network has a starting credit. A node is paid so much from it in its whole life, all
nodes together so much in a day and in all, so that cheap accounts do not multiply it; and it is TEST credits, which
nobody can withdraw. What neither covers is left unchecked. (Decision: docs/adr/0028-who-pays-for-checks.md.)
"""

from __future__ import annotations

from typing import NamedTuple

from fallow.domain.billing import HOUR_MS

SHARE = 4
"""No check takes more than one in so many parts of what is left for it: others run beside it, and when results differ
there must be something left for whoever decides between them."""

CHECK_MS_MIN = 10_000
"""A check that could not be paid for so long, and not for twice as long as the first result took, is not begun."""

DAY_MS = 24 * HOUR_MS

StartKey = tuple[bytes, int]
"""A node, and the day (since 1970, UTC) on which it was given a check that the starting credit pays."""


class Starting(NamedTuple):
    """The starting credit in micro-US-dollars, and the parts of it that one node, and all nodes in a day, can get."""

    total: int = 10_000_000

    @property
    def a_node(self) -> int:
        """At most for one node, over all time."""
        return self.total // 100

    @property
    def a_day(self) -> int:
        """At most in a day, for all nodes together."""
        return self.total // 10


def payable_ms(left_microusd: int, price_microusd_per_hour: int, limit_ms: int, first_ms: int = 0) -> int:
    """For how long a check can be paid from what is left, at most `limit_ms`; 0 when it is not worth to be begun.

    `first_ms` is what the result took that it checks.
    """
    share = max(0, left_microusd) // SHARE
    ms = min(limit_ms, share * HOUR_MS // price_microusd_per_hour) if price_microusd_per_hour else limit_ms
    return ms if ms >= min(limit_ms, max(CHECK_MS_MIN, 2 * first_ms)) else 0
