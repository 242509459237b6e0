"""Amounts as sentences for people say them."""

from __future__ import annotations

from typing import Final

_MICRO: Final = 1_000_000


def dollars(microusd: int) -> str:
    """Say an amount to its last digit, for example `0.0125 USD`."""
    whole, rest = divmod(microusd, _MICRO)
    return f"{whole}.{rest:06}".rstrip("0").rstrip(".") + " USD"
