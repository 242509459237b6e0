"""In which countries a bucket's pieces may lie. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from fallow.domain.errors import InvalidInput

EU: Final = "EU"
_MEMBERS: Final = (
    "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE", "IT", "LT", "LU", "LV",
    "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK",
)  # fmt: skip
"""Of the European Union, since 2020."""
_CODE: Final = re.compile(r"^[A-Z]{2}\Z")


def read_countries(words: Iterable[str]) -> list[str]:
    """Read countries by their codes of two letters (ISO 3166-1), of which EU means all of the European Union's.

    Raises:
        InvalidInput: `storage.country`.
    """
    found = set[str]()
    for word in words:
        code = word.upper()
        if not _CODE.match(code):
            hint = "Write its code of two letters, such as DE; EU stands for the European Union's countries."
            raise InvalidInput("storage.country", f"{word[:100]!r} is no country.", hint)
        found.update(_MEMBERS if code == EU else [code])
    return sorted(found)
