"""Requests about what the network keeps of a price."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from fallow.domain.calls.base import Person, Request
from fallow.domain.fees import FeePpm, FeeWord, ReservePpm
from fallow.domain.orders import Id

FEES = "registry.fees"
SET_FEE = "registry.set_fee"


class SetFee(Request, frozen=True, kw_only=True):
    """Let the fee, and the reserve's part of it, be so from `from_ms` on; None is as early as may be.

    `id` (32 hex digits) makes the same word count once.
    """

    id: Id
    fee_ppm: FeePpm
    reserve_ppm: ReservePpm
    from_ms: Annotated[int, Meta(ge=0, le=2**53)] | None = None


class SayFee(SetFee, frozen=True, kw_only=True):
    """Let it be so for a person."""

    by: Person


class FeeWords(Request, frozen=True, kw_only=True):
    """All that was said, in that order."""

    words: list[FeeWord]
