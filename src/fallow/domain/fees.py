"""What the network keeps of a price, at any time: what its operators have said, and how early they must say it.

Owners decide by the fee whether to let their machines. So what takes more from them than they were told holds a day
after it was said at the earliest: whoever does not want it can leave before. What takes as much or less may hold at
once. How much of the fee goes to the reserve takes nothing from them. The last word counts: from its moment on it is
in the place of all that were said before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, NamedTuple

from msgspec import Meta

from fallow.domain.billing import PPM, FeePolicy

NOTICE_MS: Final = 86_400_000

FEE_MAX_PPM: Final = 500_000
"""No network keeps more of a price than whoever does the work; and 80 % is most likely a slip that meant 8 %."""

AHEAD_MAX_MS: Final = 366 * NOTICE_MS
"""What is said of a later time nobody would remember."""

FeePpm = Annotated[int, Meta(ge=0, le=FEE_MAX_PPM)]
ReservePpm = Annotated[int, Meta(ge=0, le=PPM)]


class FeeWord(NamedTuple):
    """What holds from a moment on (milliseconds since 1970)."""

    from_ms: int
    fee_ppm: int
    reserve_ppm: int


class Fees:
    """The fee at any time. `first` are the settings, which hold where nothing is known of any word.

    `words` are in the order in which they were said. Whoever holds this has them replaced as more are said.
    """

    def __init__(self, first: FeePolicy = FeePolicy(), words: Sequence[FeeWord] = ()) -> None:  # noqa: B008 - immutable
        self.first = first
        self.words = words

    def at(self, at_ms: int) -> FeePolicy:
        """What holds at a moment: what was said last of those words whose own moment has come."""
        for word in reversed(self.words):
            if word.from_ms <= at_ms:
                return self.first._replace(fee_ppm=word.fee_ppm, reserve_ppm=word.reserve_ppm)
        return self.first

    def following(self, at_ms: int) -> FeeWord | None:
        """What holds next, after what holds at a moment; None where nothing else will."""
        now = self.at(at_ms)
        for later in sorted(word.from_ms for word in self.words if word.from_ms > at_ms):
            policy = self.at(later)
            if policy != now:
                return FeeWord(later, policy.fee_ppm, policy.reserve_ppm)
        return None

    def too_soon(self, word: FeeWord, now_ms: int) -> bool:
        """Whether a word takes more than what owners were told, at any moment of the day that begins now."""
        told_until = now_ms + NOTICE_MS
        changes = (each.from_ms for each in self.words if word.from_ms < each.from_ms < told_until)
        return word.from_ms < told_until and any(
            word.fee_ppm > self.at(moment).fee_ppm for moment in (word.from_ms, *changes)
        )
