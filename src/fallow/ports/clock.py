"""Time, as a port: production reads the machine's clocks, tests and simulations bring their own."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Two clocks that are never mixed."""

    def now_ms(self) -> int:
        """Wall time in milliseconds since 1970-01-01 UTC. It may jump; use it for stamps and deadlines kept on disk."""
        ...

    def monotonic_ms(self) -> int:
        """Milliseconds from an arbitrary start that never go back. Use it for durations inside one process."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait. Code under test waits through this method and no other."""
        ...
