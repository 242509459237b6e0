"""numeric(78) as Python integers: asyncpg's own codec goes through Decimal, which is slow and allows fractions.

Source of the format: PostgreSQL, src/backend/utils/adt/numeric.c, numeric_send: four 16-bit integers (number of
digits, weight of the first digit, sign, digits after the point) and the digits in base 10,000.
"""

from __future__ import annotations

from struct import Struct, unpack_from

BASE = 10_000
_POSITIVE, _NEGATIVE = 0x0000, 0x4000
_ZERO = bytes(8)
_ONE_DIGIT = Struct(">HhHHH").pack
_TWO_DIGITS = Struct(">HhHHHH").pack
_HEADER = Struct(">HhHH")


def encode(value: int) -> bytes:
    """PostgreSQL's binary form of an integer of any size."""
    if 0 < value < BASE:
        return _ONE_DIGIT(1, 0, _POSITIVE, 0, value)
    if BASE <= value < BASE * BASE:
        return _TWO_DIGITS(2, 1, _POSITIVE, 0, *divmod(value, BASE))
    if value == 0:
        return _ZERO
    sign = _POSITIVE if value > 0 else _NEGATIVE
    rest, digits = abs(value), list[int]()
    while rest:
        rest, digit = divmod(rest, BASE)
        digits.append(digit)
    count = len(digits)
    return Struct(f">HhHH{count}H").pack(count, count - 1, sign, 0, *reversed(digits))


def decode(data: bytes) -> int:
    """The integer that PostgreSQL sent.

    Raises:
        ValueError: it is not a whole number (a fraction, NaN or infinity). Cast such a column to another type.
    """
    count, weight, sign, scale = _HEADER.unpack_from(data)
    if scale or sign not in (_POSITIVE, _NEGATIVE) or count > weight + 1 > 0:
        raise ValueError("a numeric that is not a whole number came from the database")
    value = 0
    for digit in unpack_from(f">{count}H", data, _HEADER.size):
        value = value * BASE + digit
    value *= BASE ** (weight + 1 - count) if count else 1
    return value if sign == _POSITIVE else -value
