"""What shared services cost by the meter, at any time: what operators have said, and how early they must say it.

A subscription keeps the tariff that it was opened at. So a word touches those that are opened from its moment on, and
one that asks more may hold at once. Owners earn by what new subscriptions pay: what asks less for anything than they
were told holds a day after it was said at the earliest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fallow.domain.subscriptions import MeterName, Price, Tariff
from fallow.domain.words import changes, holding, told


class Unit(NamedTuple):
    """As people speak of a meter: `per` of what it counts, and what that is, by language (`en`, `ja`)."""

    per: int
    said: Mapping[str, str]


class TariffWord(NamedTuple):
    """What a vertical's new subscriptions pay from a moment on (milliseconds since 1970)."""

    from_ms: int
    vertical: str
    tariff: Tariff


class Tariffs:
    """The tariff of each vertical at any time. `first` are those of their versions, which hold until the first word.

    `words` are in the order in which they were said. Whoever holds this has them replaced as more are said.
    """

    def __init__(self, first: Mapping[str, Tariff], words: Sequence[TariffWord] = ()) -> None:
        self.first = first
        self.words = words

    def at(self, vertical: str, at_ms: int) -> dict[MeterName, Price]:
        """What holds at a moment: what was said last. Of a meter that a later version added that is the version's.

        Of a vertical that sells nothing by the meter it is empty.
        """
        word = holding(self._words(vertical), at_ms)
        first = self.first.get(vertical, {})
        return dict(first) if word is None else {meter: word.tariff.get(meter, first[meter]) for meter in first}

    def following(self, vertical: str, at_ms: int) -> TariffWord | None:
        """What holds next, after what holds at a moment; None where nothing else will."""
        now = self.at(vertical, at_ms)
        for later in changes(self._words(vertical), at_ms):
            tariff = self.at(vertical, later)
            if tariff != now:
                return TariffWord(later, vertical, tariff)
        return None

    def too_soon(self, word: TariffWord, now_ms: int) -> bool:
        """Whether a word asks less for anything than what owners were told, in the day that begins now."""
        moments = told(self._words(word.vertical), word.from_ms, now_ms)
        return any(falls(self.at(word.vertical, moment), word.tariff) for moment in moments)

    def _words(self, vertical: str) -> list[TariffWord]:
        return [word for word in self.words if word.vertical == vertical]


def falls(before: Mapping[str, Price], after: Mapping[str, Price]) -> bool:
    """Whether anything costs less."""
    return any(after[meter].microusd * price.per < price.microusd * after[meter].per for meter, price in before.items())
