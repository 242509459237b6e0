"""From when a word of an operator holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fallow.domain.errors import InvalidInput
from fallow.domain.words import AHEAD_MAX_MS, NOTICE_MS

HINT: Final = "Name no moment, and it holds in a day."


def moment_of(asked_ms: int | None, now_ms: int, too_soon: Callable[[int], bool], refusal: InvalidInput) -> int:
    """Return the moment that was asked for, or the earliest there may be; `too_soon` says of one that it is not.

    Raises:
        InvalidInput: it is too soon (the `refusal`), past (`moment.past`), or more than a year ahead
            (`moment.too_far`).
    """
    if asked_ms is None:
        return now_ms + NOTICE_MS if too_soon(now_ms) else now_ms
    if asked_ms < now_ms:
        raise InvalidInput("moment.past", "Its moment is past: what was charged stays as it is.", "Name a later one.")
    if asked_ms > now_ms + AHEAD_MAX_MS:
        raise InvalidInput("moment.too_far", "Its moment is more than a year ahead.", "Name an earlier one.")
    if too_soon(asked_ms):
        raise refusal
    return asked_ms
