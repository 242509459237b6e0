"""Whether two files are near each other: numbers within a margin, everything else the same.

Two numbers agree when |a - b| <= atol + rtol * max(|a|, |b|), in exact rational arithmetic: what a file says in decimal
is taken as it stands, what it holds as IEEE 754 as exactly the number that it is. NaN agrees with NaN, an infinity with
itself. So the relation is symmetric and reflexive; it is not transitive.

What is compared as numbers: the numbers of JSON in files named .json, the elements of arrays in files named .npy (real,
integer and complex types; of the same type and shape), and in other files that are UTF-8 text each word that is a
number. What is none of this, is longer than a number ever is, or stands in more than `TEXT_BYTES_MAX` of text must be
the same byte for byte.
"""

from __future__ import annotations

import ast
import json
import re
import struct
from collections.abc import Iterator
from fractions import Fraction
from math import isinf, isnan, prod
from typing import Any, Final, NamedTuple

TEXT_BYTES_MAX: Final = 8 << 20
"""A node must not hold up the comparison with endless text. Arrays are read piece by piece, and may be longer."""
HEADER_BYTES_MAX: Final = 10_000
"""Of an array's header, as NumPy itself takes it (`max_header_size`): longer ones are slow to read."""
DIGITS_MAX: Final = 400
EXPONENT_MAX: Final = 400
_NUMBER: Final = re.compile(r"(?<![\w.])([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)(?![\w.])", re.ASCII)
_MAGIC: Final = b"\x93NUMPY"
_TYPE: Final = re.compile("([<>|=])([a-z])([0-9]{1,2})")
_CODES: Final = {
    "f2": "e", "f4": "f", "f8": "d", "c8": "ff", "c16": "dd", "b1": "?",
    "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I", "u8": "Q",
}  # fmt: skip
_AT_ONCE: Final = 4096

# Where binary fractions decide without doubt; closer to the margin, or outside of these sizes, they do not.
_TINY, _HUGE = 1e-250, 1e250
_BLUR_OF_NUMBERS, _BLUR_OF_MARGIN = 2.0**-50, 2.0**-40


class Margins(NamedTuple):
    """How far two numbers may be apart, exactly and as the nearest binary fractions."""

    rtol: Fraction
    atol: Fraction
    rtol_float: float
    atol_float: float


def margins(rtol: str, atol: str) -> Margins:
    """Read margins as orders have them."""
    return Margins(Fraction(rtol), Fraction(atol), float(rtol), float(atol))


def near(name: str, one: bytes, other: bytes, margin: Margins) -> bool:
    """Whether two contents of the file `name` are near each other."""
    if one == other:
        return True
    try:
        if name.endswith(".npy"):
            return _near_arrays(one, other, margin)
        if max(len(one), len(other)) > TEXT_BYTES_MAX:
            return False
        if name.endswith(".json"):
            return _near_values(_read_json(one), _read_json(other), margin)
        return _near_texts(one.decode(), other.decode(), margin)
    except (ValueError, TypeError, LookupError, RecursionError, SyntaxError, MemoryError, struct.error):
        return False  # it is not what its name says, and the bytes differ


def close(one: float | Fraction, other: float | Fraction, margin: Margins) -> bool:
    """Whether two numbers agree; what is no number agrees with its like."""
    for odd in (isnan, isinf):
        if any(isinstance(number, float) and odd(number) for number in (one, other)):
            return one == other or (isnan(one) and isnan(other))
    quick = _quick(one, other, margin)
    if quick is not None:
        return quick
    left, right = Fraction(one), Fraction(other)
    return abs(left - right) <= margin.atol + margin.rtol * max(abs(left), abs(right))


def _quick(one: float | Fraction, other: float | Fraction, margin: Margins) -> bool | None:
    """Decide in binary fractions, where rounding cannot matter; else None."""
    try:
        left, right = float(one), float(other)
    except OverflowError:
        return None
    size = max(abs(left), abs(right))
    bound = margin.atol_float + margin.rtol_float * size
    if not _TINY < bound < _HUGE or size > _HUGE:
        return None
    gap, blur = abs(left - right), size * _BLUR_OF_NUMBERS + bound * _BLUR_OF_MARGIN
    if gap + blur < bound:
        return True
    return False if gap - blur > bound else None


class _Number(str):
    """A number of JSON, as it stands there."""

    __slots__ = ()


def _read_json(data: bytes) -> Any:  # noqa: ANN401 - whatever JSON holds
    return json.loads(data.decode(), parse_float=_Number, parse_int=_Number, parse_constant=_Number)


def _near_values(one: Any, other: Any, margin: Margins) -> bool:  # noqa: ANN401 - whatever JSON holds
    if isinstance(one, _Number) and isinstance(other, _Number):
        return _near_numbers(one, other, margin)
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_near_values(one[key], other[key], margin) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(
            _near_values(left, right, margin) for left, right in zip(one, other, strict=True)
        )
    return bool(one == other)


def _near_texts(one: str, other: str, margin: Margins) -> bool:
    """Between the numbers stands the same."""
    left, right = _NUMBER.split(one), _NUMBER.split(other)
    return (
        len(left) == len(right)
        and left[::2] == right[::2]
        and all(_near_numbers(*pair, margin) for pair in zip(left[1::2], right[1::2], strict=True))
    )


def _near_numbers(one: str, other: str, margin: Margins) -> bool:
    if one == other:
        return True
    left, right = _exact(one), _exact(other)
    return left is not None and right is not None and close(left, right, margin)


def _exact(text: str) -> Fraction | None:
    """The number that a text names; None where that is longer than a number ever is, or no number."""
    mantissa, _, exponent = text.lower().partition("e")
    power = exponent.lstrip("+-0")  # zeros in front make it no smaller
    if len(mantissa) > DIGITS_MAX or len(power) > len(str(EXPONENT_MAX)) or int(power or 0) > EXPONENT_MAX:
        return None
    return Fraction(text)


def _near_arrays(one: bytes, other: bytes, margin: Margins) -> bool:
    left, right = _Array.read(one), _Array.read(other)
    return left.kind == right.kind and all(
        close(number, counterpart, margin) for number, counterpart in _differing(left, right)
    )


class _Array(NamedTuple):
    """An array in NumPy's format: type, order and shape, and the bytes of its elements."""

    kind: tuple[str, bool, tuple[int, ...]]
    data: memoryview

    @classmethod
    def read(cls, file: bytes) -> _Array:
        """Read one; ValueError where it is none, or holds other things than numbers."""
        if file[:6] != _MAGIC or file[6] not in (1, 2, 3):
            raise ValueError("this is no array")
        wide = file[6] > 1
        (size,) = struct.unpack_from("<I" if wide else "<H", file, 8)
        if size > HEADER_BYTES_MAX:
            raise ValueError("its header is too long")
        start = (12 if wide else 10) + size
        header = ast.literal_eval(file[start - size : start].decode().strip())
        matched = _TYPE.fullmatch(header["descr"])
        shape = header["shape"]
        if matched is None or matched[2] + matched[3] not in _CODES or not all(type(part) is int for part in shape):
            raise ValueError("these are no numbers")
        array = cls((header["descr"], bool(header["fortran_order"]), tuple(shape)), memoryview(file)[start:])
        if len(array.data) != prod(shape) * array.layout.size:
            raise ValueError("it is cut short")
        return array

    @property
    def layout(self) -> struct.Struct:
        """How an element lies there."""
        order, kind = self.kind[0][0], self.kind[0][1:]
        return struct.Struct(("=" if order == "|" else order) + _CODES[kind])


def _differing(one: _Array, other: _Array) -> Iterator[tuple[float, float]]:
    """Pairs of numbers, without long pieces that are the same."""
    step = one.layout.size * _AT_ONCE
    for start in range(0, len(one.data), step):
        left, right = one.data[start : start + step], other.data[start : start + step]
        if left != right:
            for mine, yours in zip(one.layout.iter_unpack(left), one.layout.iter_unpack(right), strict=True):
                yield from zip(mine, yours, strict=True)
