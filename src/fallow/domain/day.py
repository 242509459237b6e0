"""What a node was in each five minutes of the last day, as somebody saw it who was only told of changes. Pure."""

from __future__ import annotations

from typing import Final

SLOT_MS: Final = 300_000
SLOTS: Final = 288
"""A day of them."""

BUSY, IDLE, PAUSED, OFFLINE = 1, 2, 4, 8
_BITS: Final = 4
_MASK: Final = (1 << _BITS * SLOTS) - 1


class Day:
    """A slot holds all that the node was in it; none of these: nobody saw it.

    It is one number, of at most 144 bytes, into which slots are pushed when something changes or somebody looks: a
    node that only stays what it is costs nothing.
    """

    __slots__ = ("_seen", "_slot", "is_now")

    def __init__(self, now: int) -> None:
        self._seen = 0
        self._slot = now // SLOT_MS
        self.is_now = 0
        """What it is since the last change."""

    def turn(self, into: int, at: int) -> None:
        """Note that it is this from a time on; what was noted before is not changed by an earlier time."""
        self._go_on(at)
        self.is_now = into
        self._seen |= into

    def slots(self, now: int) -> str:
        """Return a hexadecimal digit for each slot; the last is of the slot that runs."""
        self._go_on(now)
        return f"{self._seen:0{SLOTS}x}"

    def _go_on(self, now: int) -> None:
        passed = now // SLOT_MS - self._slot
        if passed > 0:
            new = min(passed, SLOTS)
            filled = self.is_now * (((1 << _BITS * new) - 1) // ((1 << _BITS) - 1))
            self._seen = (self._seen << _BITS * new | filled) & _MASK
            self._slot += passed
