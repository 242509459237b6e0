"""The machine's clocks."""

from __future__ import annotations

import asyncio
import time

NS_PER_MS = 1_000_000


class SystemClock:
    """The `Clock` port on the machine's own clocks."""

    def now_ms(self) -> int:
        """See the port."""
        return time.time_ns() // NS_PER_MS

    def monotonic_ms(self) -> int:
        """See the port."""
        return time.monotonic_ns() // NS_PER_MS

    async def sleep(self, seconds: float) -> None:
        """See the port."""
        await asyncio.sleep(seconds)
