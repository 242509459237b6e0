"""The network's time: the wall clock, kept from going back or standing still."""

from __future__ import annotations

from fallow.ports.clock import Clock


class Steady:
    """The `Clock` port for whoever stamps what others are billed by.

    A wall clock that is set forward is followed at once. One that is set back is not: time goes on at the pace of the
    monotonic clock until the wall clock has come to the same hour again. So no duration between two stamps of one
    process is negative, or shorter than it was.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._at = clock.now_ms()
        self._ticks = clock.monotonic_ms()

    def now_ms(self) -> int:
        """See the port."""
        ticks = self._clock.monotonic_ms()
        self._at = max(self._clock.now_ms(), self._at + ticks - self._ticks)
        self._ticks = ticks
        return self._at

    def monotonic_ms(self) -> int:
        """See the port."""
        return self._clock.monotonic_ms()

    async def sleep(self, seconds: float) -> None:
        """See the port."""
        await self._clock.sleep(seconds)

    def not_before(self, at_ms: int) -> None:
        """Go on from `at_ms` if that is later: an earlier process has stamped it."""
        self._at = max(self.now_ms(), at_ms)
