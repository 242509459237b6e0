"""How far this machine's clock is from the network's: by a wrong one no order limit holds."""

from __future__ import annotations

from typing import Final

from fallow.domain.errors import FallowError, Unavailable
from fallow.ports.clock import Clock
from fallow.verticals.storage.core.orders import LIMIT_MS
from fallow.verticals.storage.core.questions import CLOCK

OFF_MS_MAX: Final = LIMIT_MS // 2
"""Beyond that limits do not hold for as long as clients count on; from twice as much on, none does."""


class NetworkTime:
    """Compares the two whenever the network says something that it has just signed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._off_ms = 0

    def hear(self, at_ms: int) -> None:
        """Take note that it is `at_ms` where the network is."""
        self._off_ms = self._clock.now_ms() - at_ms

    @property
    def trouble(self) -> str:
        """What is wrong, and what to do; empty where they agree."""
        if abs(self._off_ms) <= OFF_MS_MAX:
            return ""
        return (
            f"{CLOCK}: This machine's clock is {self._far}: nothing new comes, and from an hour on nothing is"
            " read. Set it: timedatectl set-ntp true (it is compared every ten minutes)."
        )

    def blamed(self, refused: FallowError) -> FallowError:
        """What a client hears whose limit seems not to hold now."""
        if not self.trouble:
            return refused
        return Unavailable(CLOCK, f"This node's clock is {self._far}.", "Take another node.")

    @property
    def _far(self) -> str:
        minutes = abs(self._off_ms) // 60_000
        days, hours = divmod(minutes // 60, 24)
        far = f"{days:,} d {hours} h" if days else f"{hours} h {minutes % 60} min"
        return f"{far} {'ahead of' if self._off_ms > 0 else 'behind'} the network's"
