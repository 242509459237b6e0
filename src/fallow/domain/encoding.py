"""The one encoding of everything that is signed or hashed: deterministic CBOR (RFC 8949 section 4.2.1).

Only integers, byte strings, text, booleans, null, arrays and maps with text keys occur; floats and tags do not,
so that two implementations cannot disagree about a value. As all keys of maps are texts, the length-first order of
older libraries and the bytewise order of RFC 8949 are the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import cbor2

from fallow.domain.errors import InvalidInput

KEY_BYTES_MAX = 40
DEPTH_MAX = 16
INT_MIN, INT_MAX = -(1 << 64), (1 << 64) - 1
"""What CBOR writes without a tag."""
UNBOUNDED = 1 << 62
KEYS_REMEMBERED = 32
ARRAY = 0x80
"""What the first byte of a length has besides in an array's head."""
LOAD_DEPTH = DEPTH_MAX + 2
_BROKEN = (cbor2.CBORDecodeError, ValueError, TypeError, RecursionError, OverflowError)
"""What reading malformed CBOR ends in."""

Value = Any
"""int, bytes, str, bool, None, list of Values, or dict from str to Values."""


def encode(value: Value) -> bytes:
    """Encode `value`.

    Raises:
        InvalidInput: it holds a type that the encoding does not have.
    """
    _check(value, UNBOUNDED, ordered=False)
    return cbor2.dumps(value, canonical=True)


def decode(data: bytes) -> Value:
    """Decode `data`, refusing anything that `encode` would not have written.

    What has its keys in order, and no other types, has one form only: that in which it is written again here.

    Raises:
        InvalidInput: it is not CBOR, uses other types, or is not the deterministic form.
    """
    try:
        value = cbor2.loads(
            data, allow_indefinite=False, allow_duplicate_keys=False, strict_hashable_types=True, max_depth=LOAD_DEPTH
        )
        _check(value, len(data), ordered=True)
    except _BROKEN as error:
        raise InvalidInput("encoding.malformed", f"The data is not valid CBOR: {error}.") from error
    if cbor2.dumps(value) != data:
        raise InvalidInput("encoding.not_deterministic", "The data is CBOR, but not in its deterministic form.")
    return value


def decode_all(several: Sequence[bytes]) -> list[Value]:
    """Decode each as `decode` does, and raise what it raises, in less time where all are in order.

    They are read in one go as the elements of one array. That each of them is one element, in the deterministic form,
    is shown by writing it again; whatever does not come out so is decoded alone, which says why.
    """
    joined = _joined(several)
    try:
        values = cbor2.loads(
            joined,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
            max_depth=LOAD_DEPTH + 1,
        )
        for_each = values if isinstance(values, list) and len(values) == len(several) else []
        _check(for_each, len(joined), ordered=True, depth=-1)
        if [cbor2.dumps(value) for value in for_each] == list(several):
            return for_each
    except (*_BROKEN, InvalidInput):
        pass
    return [decode(data) for data in several]


def decode_again(data: bytes) -> Value:
    """Decode what `decode` has accepted before and what was in safe keeping since: nothing is checked."""
    return cbor2.loads(data)


def decode_all_again(several: Sequence[bytes]) -> list[Value]:
    """Decode each as `decode_again` does, in half the time: they are read as the elements of one array.

    Raises:
        InvalidInput: something in them is no CBOR: they were not in safe keeping.
    """
    try:
        values: list[Value] = cbor2.loads(_joined(several))
    except _BROKEN as error:
        raise InvalidInput("encoding.malformed", f"The data is not valid CBOR: {error}.") from error
    return values


def _joined(several: Sequence[bytes]) -> bytes:
    """Write one array of values that are encoded already."""
    head = cbor2.dumps(len(several))
    return bytes([head[0] | ARRAY, *head[1:]]) + b"".join(several)


def tagged_hash(tag: str, data: bytes) -> bytes:
    """SHA-256 over a domain tag, a zero byte and the data: a hash made for one purpose never fits another."""
    return hashlib.sha256(tag.encode() + b"\0" + data).digest()


def _check(value: Value, room: int, *, ordered: bool, depth: int = 0) -> None:  # noqa: C901 - one case a type
    """Refuse what the encoding does not have, or what is larger than `room` bytes; level by level, from the outermost.

    Without the bound a few references to shared values (tags 28 and 29, 25 and 256) would unfold without end. With
    `ordered` the keys of maps must stand in the order in which they are written.
    """
    level = [value]
    while level:
        if depth > DEPTH_MAX:
            raise InvalidInput("encoding.too_deep", f"The value nests deeper than {DEPTH_MAX} levels.")
        below: list[Value] = []
        for each in level:
            kind = type(each)
            if kind is int:
                if not INT_MIN <= each <= INT_MAX:
                    raise InvalidInput("encoding.range", "Integers have up to 64 bits and a sign.")
            elif kind is bytes:
                room -= len(each)
            elif kind is str:
                room -= len(_utf8(each))
            elif kind is dict:
                room -= len(each) + _check_keys(each, ordered=ordered)
                _require(room)
                below += each.values()
            elif kind is list:
                room -= len(each)
                _require(room)
                below += each
            elif each is not None and kind is not bool:
                raise InvalidInput("encoding.type", f"The encoding has no {kind.__name__}.")
        _require(room)
        level, depth = below, depth + 1


def _require(room: int) -> None:
    if room < 0:
        raise InvalidInput("encoding.not_deterministic", "The data refers to parts of itself.")


def _check_keys(keys: Collection[object], *, ordered: bool) -> int:
    """Refuse keys that the encoding does not have, or that are out of order; returns how many bytes they take."""
    names = tuple(keys)
    if not ordered:
        return sum(len(_key(name)) for name in names)
    return _remembered(names) if len(names) <= KEYS_REMEMBERED else _ordered(names)


def _ordered(names: tuple[object, ...]) -> int:
    encoded = [_key(name) for name in names]
    if any((len(one), one) >= (len(other), other) for one, other in pairwise(encoded)):
        raise InvalidInput("encoding.not_deterministic", "The keys of a map are not in order.")
    return sum(map(len, encoded))


_remembered = lru_cache(1024)(_ordered)
"""Millions of records have the same few sets of keys."""


def _key(name: object) -> bytes:
    if isinstance(name, str) and len(data := _utf8(name)) <= KEY_BYTES_MAX:
        return data
    raise InvalidInput("encoding.key", f"Map keys are texts of up to {KEY_BYTES_MAX} bytes.")


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput("encoding.text", "The text holds half of a character (a lone surrogate).") from error
