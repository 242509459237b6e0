"""Requests for the market as a whole: who offers, how much, and where."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from fallow.domain.calls.base import Page, Request
from fallow.domain.places import RESOLUTION_MAX, Cell

OFFERS = "market.offers"
TOTALS = "market.totals"
MAP = "market.map"


class OffersRef(Page, frozen=True, kw_only=True):
    """Part of the list of nodes with an offer, by id; without `labels` what their owners call them is left out."""

    labels: bool = True


class MapRef(Request, frozen=True, kw_only=True):
    """The map, in cells of H3 of a resolution; or what of it lies around a cell, in finer ones."""

    resolution: Annotated[int, Meta(ge=0, le=RESOLUTION_MAX)]
    around: Cell = ""
