"""What failed that no rule foresees, which is a bug: its place and trace go to the log, and it is counted.

What failed ends there: whoever asked hears that it did, and the service goes on with the next.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

from fallow.domain.errors import Unavailable
from fallow.ports.clock import Clock

PLACES_MAX: Final = 1000
AGAIN_S: Final = 1.0

_log = logging.getLogger(__name__)


class Mishaps:
    """How often what failed, by place: a subject, or the name of a loop."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._told: list[Callable[[BaseException], None]] = []

    def note(self, place: str, error: BaseException) -> None:
        """Log an error with its trace, and count it."""
        _log.error("%s failed unexpectedly", place, exc_info=error)
        if place in self._counts or len(self._counts) < PLACES_MAX:
            self._counts[place] += 1
        for told in self._told:
            told(error)

    @contextmanager
    def heard(self, told: Callable[[BaseException], None]) -> Iterator[None]:
        """Tell of each error, too, while the context is open."""
        self._told.append(told)
        try:
            yield
        finally:
            self._told.remove(told)

    def counts(self) -> dict[str, int]:
        """How often each place has failed since the start of this process."""
        return dict(self._counts)


MISHAPS: Final = Mishaps()
"""Those of this process."""


def internal() -> Unavailable:
    """Return what is answered to who asked for what failed so."""
    return Unavailable("internal", "The network failed at this.", "Its operator finds why in the log: fallow health")


async def steadily(place: str, work: Callable[[], Awaitable[None]], clock: Clock) -> None:
    """Do `work`, which has no end of its own; where it fails all the same, note that and begin it again."""
    while True:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - that is what it is for
            MISHAPS.note(place, error)
            await clock.sleep(AGAIN_S)
        else:
            return
