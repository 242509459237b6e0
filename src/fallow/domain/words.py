"""What operators say of prices: words that hold from a moment on. Pure.

The last word counts: from its moment on it is in the place of all that were said before it. Whoever earns by what a
word changes decides by it whether to go on; so what gives him less than he was told holds a day after it was said at
the earliest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol, TypeVar

NOTICE_MS: Final = 86_400_000
AHEAD_MAX_MS: Final = 366 * NOTICE_MS
"""What is said of a later time nobody would remember."""


class Word(Protocol):
    """One of them. Times are milliseconds since 1970."""

    @property
    def from_ms(self) -> int:
        """From when it holds."""
        ...


WordT = TypeVar("WordT", bound=Word)


def holding(words: Sequence[WordT], at_ms: int) -> WordT | None:
    """Of words in the order in which they were said, the one that holds at a moment; None: none does yet."""
    return next((word for word in reversed(words) if word.from_ms <= at_ms), None)


def changes(words: Sequence[Word], after_ms: int) -> list[int]:
    """When something else may begin to hold, after a moment."""
    return sorted({word.from_ms for word in words if word.from_ms > after_ms})


def told(words: Sequence[Word], from_ms: int, now_ms: int) -> list[int]:
    """From `from_ms` on, when something begins to hold of which people were told within the day that begins now."""
    until = now_ms + NOTICE_MS
    return [moment for moment in (from_ms, *changes(words, from_ms)) if moment < until]
