"""Whole numbers, as headers, queries and documents hold them."""

from __future__ import annotations

import re
from typing import Final

_WHOLE: Final = re.compile(r"[0-9]{1,15}")


def whole(text: str) -> int | None:
    """Read a whole number of at most 15 plain digits; None: it is none."""
    return int(text) if _WHOLE.fullmatch(text) else None
