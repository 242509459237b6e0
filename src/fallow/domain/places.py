"""Where nodes are, as far as the public may know: cells of H3, the hexagonal grid of the Earth (https://h3geo.org).

A cell of resolution 5 covers some 250 km2, with edges of 8 to 10 km; a smaller number is a coarser cell. Finer ones
name a village or a house, and are not taken. What a node says of its place is its owner's word: nobody can prove it.
"""

from __future__ import annotations

import importlib
import re
from functools import cache, lru_cache
from types import ModuleType
from typing import Annotated

from msgspec import Meta

from fallow.domain.errors import InvalidInput

RESOLUTION_MAX = 5
"""The finest resolution that leaves a machine."""

Cell = Annotated[str, Meta(pattern=r"^(8[0-5][0-9a-f]{13})?$(?!\n)", max_length=15)]
"""A cell's index, as its 15 hexadecimal digits (the second one is the resolution); "" where no place is told."""

_INDEX = re.compile("8[0-9a-f]{14}")
"""Of a cell of any resolution; what is not even that the library does not always take calmly."""

_DEGREES_MAX = 90, 180
_CELLS_KEPT = 65_536


def is_cell(text: str) -> bool:
    """Whether it names a cell that is coarse enough; not every index that fits the pattern does."""
    return _is_index(text) and int(_grid().get_resolution(text)) <= RESOLUTION_MAX


def read_cell(text: str) -> str:
    """Turn what a person wrote, `LAT,LON` in degrees or a cell, into a cell that may be told.

    Raises:
        InvalidInput: it is neither (`place.invalid`).
    """
    latitude, comma, longitude = text.partition(",")
    if comma:
        try:
            degrees = float(latitude), float(longitude)
        except ValueError:
            raise _invalid(text) from None
        if not all(abs(angle) <= most for angle, most in zip(degrees, _DEGREES_MAX, strict=True)):  # NaN is not, either
            raise _invalid(text)
        return str(_grid().latlng_to_cell(*degrees, RESOLUTION_MAX))
    if not _is_index(text):
        raise _invalid(text)
    return str(_grid().cell_to_parent(text, RESOLUTION_MAX) if _grid().get_resolution(text) > RESOLUTION_MAX else text)


def resolution_of(cell: str) -> int:
    """From 0, a twentieth of a continent, to RESOLUTION_MAX."""
    return int(cell[1], 16)


def parent(cell: str, resolution: int) -> str:
    """Return the cell of a coarser resolution that holds most of it."""
    return str(_grid().cell_to_parent(cell, resolution))


def near(cell: str) -> set[str]:
    """Return it and the five or six cells next to it."""
    return set(map(str, _grid().grid_disk(cell, 1)))


def distance_km(one: str, other: str) -> int:
    """Kilometres between the centres of two cells, rounded, along the surface."""
    return round(float(_grid().great_circle_distance(_centre(one), _centre(other), unit="km")))


def is_near(cell: str, to: str, within_km: int) -> bool:
    """Whether a cell's centre is so near; what tells no place is not."""
    return bool(cell) and distance_km(cell, to) <= within_km


@cache
def _grid() -> ModuleType:
    """The library, loaded where a place is told: most machines and commands can do without its 7 MB and 40 ms."""
    return importlib.import_module("h3")


def _is_index(text: str) -> bool:
    return _INDEX.fullmatch(text) is not None and bool(_grid().is_valid_cell(text))


@lru_cache(_CELLS_KEPT)
def _centre(cell: str) -> tuple[float, float]:
    latitude, longitude = _grid().cell_to_latlng(cell)
    return latitude, longitude


def _invalid(text: str) -> InvalidInput:
    return InvalidInput(
        "place.invalid",
        f"{text[:80]!r} is no place.",
        "Write LATITUDE,LONGITUDE in degrees (52.52,13.40), or the index of an H3 cell (851f1d4bfffffff).",
    )
