"""What the network keeps of a price, at any time: what its operators have said, and how early they must say it.

Owners decide by the fee whether to let their machines. So what takes more from them than they were told holds a day
after it was said at the earliest: whoever does not want it can leave before. What takes as much or less may hold at
once. How much of the fee goes to the reserve takes nothing from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, NamedTuple

from msgspec import Meta

from fallow.domain.billing import PPM, FeePolicy
from fallow.domain.words import changes, holding, told

FEE_MAX_PPM: Final = 500_000
"""No network keeps more of a price than whoever does the work; and 80 % is most likely a slip that meant 8 %."""

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
        word = holding(self.words, at_ms)
        return self.first if word is None else self.first._replace(fee_ppm=word.fee_ppm, reserve_ppm=word.reserve_ppm)

    def following(self, at_ms: int) -> FeeWord | None:
        """What holds next, after what holds at a moment; None where nothing else will."""
        now = self.at(at_ms)
        for later in changes(self.words, at_ms):
            policy = self.at(later)
            if policy != now:
                return FeeWord(later, policy.fee_ppm, policy.reserve_ppm)
        return None

    def too_soon(self, word: FeeWord, now_ms: int) -> bool:
        """Whether a word takes more than what owners were told, at any moment of the day that begins now."""
        return any(word.fee_ppm > self.at(moment).fee_ppm for moment in told(self.words, word.from_ms, now_ms))
