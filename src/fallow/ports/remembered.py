"""What another service has said a moment ago, so that it need not be asked for each request."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
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
        self._forgotten = 0

    async def ask(self, key: Key, ask: Callable[[], Awaitable[Said]]) -> Said:
        """Return what was said a moment ago, or else what `ask` says.

        The moment begins when it asks: an answer may be long on its way. Where something was forgotten meanwhile, the
        answer may be of before, and is not remembered.
        """
        known = self.recall(key)
        if known is not None:
            return known
        asked_ms, forgotten = self._clock.monotonic_ms(), self._forgotten
        said = await ask()
        return self._keep(key, said, asked_ms) if forgotten == self._forgotten else said

    def recall(self, key: Key) -> Said | None:
        """Return what was said a moment ago."""
        said, until = self._known.get(key, (None, 0))
        return said if self._clock.monotonic_ms() < until else None

    def keep(self, key: Key, said: Said) -> Said:
        """Remember what was said just now, and return it."""
        return self._keep(key, said, self._clock.monotonic_ms())

    def drop(self, key: Key) -> None:
        """Forget it, if it is known."""
        self._forgotten += 1
        self._known.pop(key, None)

    def forget(self, which: Callable[[Said], bool]) -> None:
        """Forget all of which this is so."""
        self._forgotten += 1
        for key in [key for key, (said, _) in self._known.items() if which(said)]:
            del self._known[key]

    def _keep(self, key: Key, said: Said, since_ms: int) -> Said:
        self._known[key] = said, since_ms + MOMENT_MS
        self._known.move_to_end(key)
        if len(self._known) > self._most:
            self._known.popitem(last=False)
        return said
