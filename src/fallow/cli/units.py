"""Money and times as people write and read them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Final

from fallow.domain.errors import InvalidInput
from fallow.domain.resources import GIB_MIB, Resources

MICROUSD = 1_000_000
NUMBER_MAX = 10**18
CENT_DIGITS, MICRO_DIGITS = 2, 6
TOKEN_DIGITS = 18
TOKEN = 10**TOKEN_DIGITS
TOKEN_UNITS_MAX = 10**27
"""More are never minted; within the 28 digits that decimal numbers have here."""
LAST_MS = 253_402_300_799_000
"""The end of the year 9999."""

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

PERCENT_PPM: Final = 10_000


def usd(microusd: int) -> str:
    """Show an amount with two to six digits, for example `0.0125 USD`."""
    sign = "-" if microusd < 0 else ""
    whole, rest = divmod(abs(microusd), MICROUSD)
    digits = f"{rest:0{MICRO_DIGITS}d}".rstrip("0").ljust(CENT_DIGITS, "0")
    return f"{sign}{whole:,}.{digits} USD"


def microusd(text: str, least: int = 0) -> int:
    """Read an amount of US dollars, for example `0.02`, of `least` millionths or more.

    Raises:
        InvalidInput: it is no number, negative, too little, beyond all bounds, or finer than a millionth.
    """
    amount = _scaled(text, MICROUSD, "an amount of US dollars")
    if amount < least:
        raise InvalidInput("cli.number", f"{text!r} is too little.", f"The least is {usd(least)}.")
    return amount


def token_units(text: str, least: int = 1) -> int:
    """Read a number of tokens, for example `2.5`, as units of 10^-18, of which there must be `least` or more.

    Raises:
        InvalidInput: it is no number, too few, or finer than a unit.
    """
    units = _scaled(text, TOKEN, "a number of tokens", TOKEN_UNITS_MAX)
    if units < least:
        raise InvalidInput("cli.number", f"{text!r} tokens are too few.", f"The least is {tokens(least)}.")
    return units


def tokens(units: int) -> str:
    """Show a number of tokens, for example `2.5`."""
    sign = "-" if units < 0 else ""
    whole, rest = divmod(abs(units), TOKEN)
    return f"{sign}{whole:,}.{rest:0{TOKEN_DIGITS}d}".rstrip("0").rstrip(".")


def cpu_milli(text: str) -> int:
    """Read a number of cores, for example `0.5`; InvalidInput when it is none."""
    return _scaled(text, 1000, "a number of cores")


def seconds(text: str) -> int:
    """Read a duration: 90s, 15m, 24h, 7d, or seconds; InvalidInput when it is none."""
    found = re.fullmatch(r"(\d{1,9})([smhd]?)", text)
    if found is None:
        raise InvalidInput("cli.duration", f"{text!r} is no duration.", "Write 90s, 15m, 24h or 7d.")
    return int(found[1]) * _SECONDS[found[2] or "s"]


def size(resources: Resources | None) -> str:
    """Show an amount of a machine, for example `0.5 cores, 11.8 GiB, 2 GPUs`; empty for none."""
    if resources is None:
        return ""
    gpus = f", {resources.gpus} GPU{'s' * (resources.gpus != 1)}" if resources.gpus else ""
    cores = resources.cpu_milli / 1000
    return f"{cores:g} core{'s' * (cores != 1)}, {resources.memory_mib / GIB_MIB:.1f} GiB{gpus}"


def used(ms: int) -> str:
    """Show a time of use, for example `2.5 s`."""
    return f"{ms / 1000:,.1f} s"


def when(ms: int | None) -> str:
    """Show a point in time, in UTC; empty for none. What is later than there are dates for is the last of them."""
    return "" if ms is None else datetime.fromtimestamp(min(ms, LAST_MS) / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def ppm(text: str, what: str, most: int = 100) -> int:
    """Read a share in percent, for example `8` or `7.5`, as millionths of 0 to `most`; InvalidInput when it is none."""
    return _scaled(text, PERCENT_PPM, f"{what} in percent, from 0 to {most}", most * PERCENT_PPM)


def percent(ppm: int) -> str:
    """Show millionths, for example `7.5 %`."""
    return f"{Decimal(ppm) / PERCENT_PPM:f} %"


def moment(text: str) -> int:
    """Read a time (UTC, where it says nothing else) as milliseconds since 1970; InvalidInput when it is none."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput("cli.time", f"{text!r} is no time.", 'Write it as "2026-11-26 12:00".') from error
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def _scaled(text: str, scale: int, what: str, number_max: int = NUMBER_MAX) -> int:
    try:
        value = Decimal(text) * scale
        if value.is_finite() and 0 <= value <= number_max and value == value.to_integral_value():
            return int(value)
    except InvalidOperation:
        pass
    raise InvalidInput("cli.number", f"{text!r} is not {what}.")
