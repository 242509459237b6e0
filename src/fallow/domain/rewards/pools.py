"""Schedules of a network's token as parameters that a statement pins. Pure.

Amounts are 32 bytes, most significant first: 64 bits do not hold units of a token.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from fallow.domain.rewards.schedules import HalvingByDate, HalvingByIssuance, Ppm, YearlyDecay

Amount = Annotated[bytes, Meta(min_length=32, max_length=32)]
Positive = Annotated[int, Meta(ge=1, le=1 << 62)]


class ByIssuance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="halving_by_issuance"):
    """`blocks` of `base` units an epoch, half as many each time half of what was left of `cap` is there."""

    cap: Amount
    base: Amount
    blocks: Positive

    def pool(self, _epoch: int, issued: int) -> int:
        """What an epoch may mint when `issued` units are there."""
        schedule = HalvingByIssuance(int.from_bytes(self.cap), int.from_bytes(self.base))
        return schedule.blocks(issued, self.blocks)


class Yearly(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="yearly_decay"):
    """`first_year` units spread over `epochs_a_year`, in each later year `keep_ppm` millionths of the year's before."""

    first_year: Amount
    keep_ppm: Ppm
    epochs_a_year: Annotated[int, Meta(ge=1, le=366 * 24)]

    def pool(self, epoch: int, _issued: int) -> int:
        """What an epoch, counted from 0, may mint."""
        return YearlyDecay(int.from_bytes(self.first_year), self.keep_ppm, self.epochs_a_year).epoch(epoch)


class ByDate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="halving_by_date"):
    """`base` units an epoch, half as many after every `period` epochs."""

    base: Amount
    period: Positive

    def pool(self, epoch: int, _issued: int) -> int:
        """What an epoch, counted from 0, may mint."""
        return HalvingByDate(int.from_bytes(self.base), self.period).epoch(epoch)


Schedule = ByIssuance | Yearly | ByDate

AMOUNTS: Final = frozenset({"cap", "base", "first_year", "net_cap"})
"""Parameters that are amounts: people write them as numbers."""
