"""What another service has said a moment ago, so that it need not be asked for each request."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from fallow.ports.clock import Clock

MOMENT_MS: Final = 3_000
"""How long something may still hold here that has ended elsewhere."""

Key = TypeVar("Key")
Said = TypeVar("Said")


class Remembered(Generic[Key, Said]):
    """Holds what was said for `MOMENT_MS`, of `most` at most; what was said longest ago is forgotten first."""

    def __init__(self, clock: Clock, most: int) -> None:
        self._clock = clock
        self._most = most
        self._known: OrderedDict[Key, tuple[Said, int]] = OrderedDict()

    def recall(self, key: Key) -> Said | None:
        """Return what was said a moment ago."""
        said, until = self._known.get(key, (None, 0))
        return said if self._clock.monotonic_ms() < until else None

    def keep(self, key: Key, said: Said) -> Said:
        """Remember what was said just now, and return it."""
        self._known[key] = said, self._clock.monotonic_ms() + MOMENT_MS
        self._known.move_to_end(key)
        if len(self._known) > self._most:
            self._known.popitem(last=False)
        return said

    def drop(self, key: Key) -> None:
        """Forget it, if it is known."""
        self._known.pop(key, None)

    def forget(self, which: Callable[[Said], bool]) -> None:
        """Forget all of which this is so."""
        for key in [key for key, (said, _) in self._known.items() if which(said)]:
            del self._known[key]
