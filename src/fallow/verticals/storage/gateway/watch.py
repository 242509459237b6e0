"""Gives requests up whose other end neither sends nor takes anything."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from fallow.domain.errors import Unavailable
from fallow.ports.clock import Clock

SILENCE_MS: Final = 60_000
"""How long the other end may be silent."""
SLOWEST_BYTES_PER_S: Final = 4096
"""Whoever sends, or takes, more slowly is given up, too."""
_LOOK_S: Final = 10


class Watch:
    """Knows since when a request waits for its other end. `started`: an answer is on its way."""

    def __init__(self, clock: Clock) -> None:
        self.started = False
        self._clock = clock
        self._since_ms: int | None = None

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around each wait for the other end."""
        self._since_ms = self._clock.monotonic_ms()
        try:
            yield
        finally:
            self._since_ms = None

    async def run(self) -> None:
        """Look until cancelled.

        Raises:
            Unavailable: the other end is silent (`storage.silence`).
        """
        while True:
            await self._clock.sleep(_LOOK_S)
            if self._since_ms is not None and self._clock.monotonic_ms() - self._since_ms > SILENCE_MS:
                raise Unavailable("storage.silence", "The other end of the connection is silent.")
