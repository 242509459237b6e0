"""The one encoding of everything that is signed or hashed: deterministic CBOR (RFC 8949 section 4.2.1).

Only integers, byte strings, text, booleans, null, arrays and maps with text keys occur; floats and tags do not,
so that two implementations cannot disagree about a value. As all keys of maps are texts, the length-first order of
older libraries and the bytewise order of RFC 8949 are the same.
"""

from __future__ import annotations

import hashlib
from typing import Any

import cbor2

from fallow.domain.errors import InvalidInput

KEY_BYTES_MAX = 40
DEPTH_MAX = 16
INT_MIN, INT_MAX = -(1 << 64), (1 << 64) - 1
"""What CBOR writes without a tag."""
UNBOUNDED = 1 << 62
LOAD_DEPTH = DEPTH_MAX + 2

Value = Any
"""int, bytes, str, bool, None, list of Values, or dict from str to Values."""


def encode(value: Value) -> bytes:
    """Encode `value`.

    Raises:
        InvalidInput: it holds a type that the encoding does not have.
    """
    _check(value, 0, UNBOUNDED)
    return cbor2.dumps(value, canonical=True)


def decode(data: bytes) -> Value:
    """Decode `data`, refusing anything that `encode` would not have written.

    Raises:
        InvalidInput: it is not CBOR, uses other types, or is not the deterministic form.
    """
    try:
        value = cbor2.loads(
            data, allow_indefinite=False, allow_duplicate_keys=False, strict_hashable_types=True, max_depth=LOAD_DEPTH
        )
        _check(value, 0, len(data))
    except (cbor2.CBORDecodeError, ValueError, TypeError, RecursionError, OverflowError) as error:
        raise InvalidInput("encoding.malformed", f"The data is not valid CBOR: {error}.") from error
    if cbor2.dumps(value, canonical=True) != data:
        raise InvalidInput("encoding.not_deterministic", "The data is CBOR, but not in its deterministic form.")
    return value


def decode_again(data: bytes) -> Value:
    """Decode what `decode` has accepted before and what was in safe keeping since: nothing is checked."""
    return cbor2.loads(data)


def tagged_hash(tag: str, data: bytes) -> bytes:
    """SHA-256 over a domain tag, a zero byte and the data: a hash made for one purpose never fits another."""
    return hashlib.sha256(tag.encode() + b"\0" + data).digest()


def _check(value: Value, depth: int, room: int) -> int:  # noqa: C901 - one case a type
    """Refuse what the encoding does not have, or what is larger than `room` bytes; returns what is left of them.

    Without the bound a few references to shared values (tags 28 and 29, 25 and 256) would unfold without end.
    """
    if depth > DEPTH_MAX:
        raise InvalidInput("encoding.too_deep", f"The value nests deeper than {DEPTH_MAX} levels.")
    room -= 1
    match value:
        case None | bool():
            pass
        case int():
            if not INT_MIN <= value <= INT_MAX:
                raise InvalidInput("encoding.range", "Integers have up to 64 bits and a sign.")
        case bytes():
            room -= len(value)
        case str():
            room -= len(_utf8(value))
        case list():
            for element in value:
                room = _check(element, depth + 1, room)
        case dict():
            for key, element in value.items():
                room = _check(element, depth + 1, room - _key_length(key))
        case _:
            raise InvalidInput("encoding.type", f"The encoding has no {type(value).__name__}.")
    if room < 0:
        raise InvalidInput("encoding.not_deterministic", "The data refers to parts of itself.")
    return room


def _key_length(key: object) -> int:
    if isinstance(key, str) and len(data := _utf8(key)) <= KEY_BYTES_MAX:
        return len(data)
    raise InvalidInput("encoding.key", f"Map keys are texts of up to {KEY_BYTES_MAX} bytes.")


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput("encoding.text", "The text holds half of a character (a lone surrogate).") from error
