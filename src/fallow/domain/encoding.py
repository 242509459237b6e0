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

Value = Any
"""int, bytes, str, bool, None, list of Values, or dict from str to Values."""


def encode(value: Value) -> bytes:
    """Encode `value`.

    Raises:
        InvalidInput: it holds a type that the encoding does not have.
    """
    _check(value, 0)
    return cbor2.dumps(value, canonical=True)


def decode(data: bytes) -> Value:
    """Decode `data`, refusing anything that `encode` would not have written.

    Raises:
        InvalidInput: it is not CBOR, uses other types, or is not the deterministic form.
    """
    try:
        value = cbor2.loads(data)
    except (cbor2.CBORDecodeError, ValueError, TypeError, RecursionError, OverflowError) as error:
        raise InvalidInput("encoding.malformed", f"The data is not valid CBOR: {error}.") from error
    if encode(value) != data:
        raise InvalidInput("encoding.not_deterministic", "The data is CBOR, but not in its deterministic form.")
    return value


def tagged_hash(tag: str, data: bytes) -> bytes:
    """SHA-256 over a domain tag, a zero byte and the data: a hash made for one purpose never fits another."""
    return hashlib.sha256(tag.encode() + b"\0" + data).digest()


def _check(value: Value, depth: int) -> None:
    if depth > DEPTH_MAX:
        raise InvalidInput("encoding.too_deep", f"The value nests deeper than {DEPTH_MAX} levels.")
    match value:
        case None | bool() | int() | bytes() | str():
            return
        case list():
            for element in value:
                _check(element, depth + 1)
        case dict():
            for key, element in value.items():
                if not isinstance(key, str) or len(key.encode()) > KEY_BYTES_MAX:
                    raise InvalidInput("encoding.key", f"Map keys are texts of up to {KEY_BYTES_MAX} bytes.")
                _check(element, depth + 1)
        case _:
            raise InvalidInput("encoding.type", f"The encoding has no {type(value).__name__}.")
