"""How often one sender may come: a token bucket for each."""

from __future__ import annotations

import math
from collections import OrderedDict

import msgspec

from fallow.domain.errors import TooMuch
from fallow.ports.clock import Clock


class Rate(msgspec.Struct, frozen=True):
    """Up to `burst` at once, and `per_s` a second in the long run: requests, bytes, whatever is counted."""

    per_s: float
    burst: int


class TooSoon(TooMuch):
    """The sender's bucket is empty; `wait_s` whole seconds fill it enough for what was asked."""

    def __init__(self, wait_s: int) -> None:
        super().__init__("rate.requests", "There were too many requests.", f"Try again in {wait_s} s.")
        self.wait_s = wait_s


class Buckets:
    """One token bucket a sender. Holds `senders_max` of them at most; who was quiet longest is forgotten first."""

    def __init__(self, rate: Rate, clock: Clock, *, senders_max: int = 10_000) -> None:
        self._rate = rate
        self._clock = clock
        self._senders_max = senders_max
        self._filled: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def take(self, sender: str, tokens: int = 1) -> None:
        """Take tokens; more than a full bucket holds are never to be had.

        Raises:
            TooSoon: there are not as many.
        """
        left, now = self._tokens(sender)
        if left < tokens:
            raise TooSoon(math.ceil((tokens - left) / self._rate.per_s))
        self._filled[sender] = (left - tokens, now)
        self._filled.move_to_end(sender)
        if len(self._filled) > self._senders_max:
            self._filled.popitem(last=False)

    def _tokens(self, sender: str) -> tuple[float, int]:
        now = self._clock.monotonic_ms()
        tokens, at = self._filled.get(sender, (float(self._rate.burst), now))
        return min(self._rate.burst, tokens + (now - at) / 1000 * self._rate.per_s), now
