"""How much an epoch may mint: schedules as pure functions of what was minted, of the date, or of what was burned."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from fallow.domain.errors import InvalidInput
from fallow.domain.rewards.split import PPM, part

Ppm = Annotated[int, Meta(ge=0, le=PPM)]


class HalvingByIssuance(NamedTuple):
    """Minting halves each time half of what was left has been minted, whenever that is.

    `base` units a block at first, never more than `cap` in all. Burned tokens lower what is there and delay it.
    Rule and numbers (cap 21,000,000, base 1, 7,200 blocks a day): Bittensor, subtensor's `get_block_emission`; here in
    integers: the number of halvings is the largest k with (cap - issued) * 2^k <= cap.
    """

    cap: int
    base: int

    def a_block(self, issued: int) -> int:
        """What the next block mints when `issued` is there."""
        left = self.cap - issued
        if left <= 0:
            return 0
        halvings = (self.cap // left).bit_length() - 1
        return min(self.base >> halvings, left)

    def blocks(self, issued: int, count: int) -> int:
        """What the next `count` blocks mint together, each after the one before.

        Raises:
            InvalidInput: a negative count or issuance.
        """
        if issued < 0 or count < 0:
            raise InvalidInput("rewards.negative", "Neither an issuance nor a number of blocks is negative.")
        minted = 0
        while count:
            now = self.a_block(issued + minted)
            if now == 0:
                break
            same = min(count, self._blocks_until_less(issued + minted, now))
            minted += same * now
            count -= same
        return minted

    def _blocks_until_less(self, issued: int, now: int) -> int:
        """For how many blocks, at least one, the next ones mint as much as `now`."""
        left = self.cap - issued
        halvings = (self.cap // left).bit_length() - 1
        # The next halving comes when (cap - issued) * 2^(k+1) <= cap.
        turn = self.cap - (self.cap >> (halvings + 1))
        return max(1, -(-(turn - issued) // now))


class YearlyDecay(NamedTuple):
    """A pool for each year, `keep_ppm` millionths of the year's before, spread evenly over its epochs."""

    first_year: int
    keep_ppm: int
    epochs_a_year: int

    def until(self, epochs: int) -> int:
        """What the first `epochs` epochs mint together."""
        minted, pool = 0, self.first_year
        while epochs >= self.epochs_a_year and pool:
            minted, pool, epochs = minted + pool, part(pool, self.keep_ppm), epochs - self.epochs_a_year
        return minted + pool * min(epochs, self.epochs_a_year) // self.epochs_a_year

    def epoch(self, number: int) -> int:
        """What epoch `number` (from 0) mints: a difference of sums, so that rounding loses nothing over a year."""
        return self.until(number + 1) - self.until(number)


class HalvingByDate(NamedTuple):
    """`base` units an epoch, half as much after every `period` epochs (Helium: every two years)."""

    base: int
    period: int

    def epoch(self, number: int) -> int:
        """What epoch `number` (from 0) mints."""
        return self.base >> (number // self.period)


class NetEmissions(NamedTuple):
    """What may be minted again of what is burned, under a cap (Helium's HIP 20 and its on-chain program).

    Burns are smoothed over a week: (6 x before + today) / 7.
    """

    cap: int

    def epoch(self, smoothed_before: int, burned: int) -> tuple[int, int]:
        """The smoothed burn after this epoch, and what may be minted for it."""
        smoothed = (6 * smoothed_before + burned) // 7
        return smoothed, min(smoothed, self.cap)


class Held(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of what a new provider earns is held, as collateral without a purchase, and released afterwards.

    `withheld_ppm` is the part for each step of `step` epochs from the first on, nothing after them. What was withheld
    is released evenly over the `release` epochs after the last step. `parts` says of which pay. (Storj withholds 75,
    75, 75, 50, 50, 50, 25, 25, 25 % in months 1 to 9; it returns half after month 15, the rest when a node leaves.)
    """

    withheld_ppm: Annotated[list[Ppm], Meta(max_length=100)] = []
    step: Annotated[int, Meta(ge=1, le=100_000)] = 30
    release: Annotated[int, Meta(ge=1, le=100_000)] = 90
    parts: Literal["usage", "incentive", "both"] = "both"

    def withhold(self, age: int, part_name: str, earned: int) -> int:
        """What is withheld of a part of the pay, `age` epochs after the first one that paid."""
        step = age // self.step
        if self.parts not in {part_name, "both"} or step >= len(self.withheld_ppm):
            return 0
        return part(earned, self.withheld_ppm[step])

    def released(self, age: int, withheld: int) -> int:
        """What has been released, until the end of that epoch, of what was withheld in all."""
        last = len(self.withheld_ppm) * self.step - 1
        return vested(withheld, since=last, until=last + self.release, now=age)


def vested(amount: int, *, since: int, until: int, now: int) -> int:
    """What has become one's own of an amount that vests evenly between two times (of any unit, the same for all).

    Raises:
        InvalidInput: it ends before it begins.
    """
    if until < since:
        raise InvalidInput("rewards.vesting", "Vesting does not end before it begins.")
    if now >= until:
        return amount
    return 0 if now <= since else amount * (now - since) // (until - since)


def coverage_ppm(revenue: int, minted_value: int) -> int | None:
    """Revenue over issuance in millionths; None where nothing was minted. From one million on it pays its way."""
    return None if minted_value == 0 else revenue * PPM // minted_value
