"""Requests about what shared services cost by the meter."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from fallow.domain.calls.base import Person, Request
from fallow.domain.orders import Id
from fallow.domain.subscriptions import Tariff
from fallow.domain.tariffs import TariffWord

TARIFFS = "registry.tariffs"
SET_TARIFF = "registry.set_tariff"


class SetTariff(Request, frozen=True, kw_only=True):
    """Let subscriptions to a vertical that are opened from `from_ms` on pay this; None is as early as may be.

    Each meter of the vertical has its price. `id` (32 hex digits) makes the same word count once.
    """

    id: Id
    vertical: Annotated[str, Meta(pattern="^[a-z]{1,20}$")]
    tariff: Tariff
    from_ms: Annotated[int, Meta(ge=0, le=2**53)] | None = None


class SayTariff(SetTariff, frozen=True, kw_only=True):
    """Let it be so for a person."""

    by: Person


class TariffWords(Request, frozen=True, kw_only=True):
    """All that was said, in that order."""

    words: list[TariffWord]
