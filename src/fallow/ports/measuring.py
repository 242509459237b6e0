"""How a part of a process tells numbers of itself (`fallow.domain.metrics`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from fallow.domain.metrics import Family

Measure = Callable[[], Awaitable[Sequence[Family]]]
"""Returns what is so now. It must be quick, whatever the network holds: it is asked every few seconds.

Raises:
    FallowError: it cannot be said now; whoever asks goes without.
"""

Watch = Callable[[Measure], None]
"""Has a measure asked for as long as its process lives."""


def unwatched(_: Measure) -> None:
    """Measure nothing: where nobody is told."""
