"""The deterministic encoding: one form for each value, and nothing else is read."""

from __future__ import annotations

import hashlib
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.domain.encoding import DEPTH_MAX, decode, decode_all, encode, tagged_hash
from fallow.domain.errors import InvalidInput

LEAVES = st.none() | st.booleans() | st.integers(-(1 << 64), (1 << 64) - 1) | st.binary() | st.text()
KEYS = st.text(max_size=10)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=20)


def refused(data: bytes) -> str:
    with pytest.raises(InvalidInput) as caught:
        decode(data)
    return caught.value.code


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "data"),
    [
        # RFC 8949, appendix A
        (0, "00"),
        (23, "17"),
        (24, "1818"),
        (1000000000000, "1b000000e8d4a51000"),
        (18446744073709551615, "1bffffffffffffffff"),
        (-1, "20"),
        (-18446744073709551616, "3bffffffffffffffff"),
        (False, "f4"),
        (True, "f5"),
        (None, "f6"),
        (b"\x01\x02\x03\x04", "4401020304"),
        ("ü", "62c3bc"),
        ([1, [2, 3], [4, 5]], "8301820203820405"),
        ({"a": 1, "b": [2, 3]}, "a26161016162820203"),
        # Keys in the order of their encoding: shorter first
        ({"aa": 1, "b": 2}, "a261620262616101"),
    ],
)
def test_known_bytes(value: object, data: str) -> None:
    assert encode(value).hex() == data
    assert decode(bytes.fromhex(data)) == value


@given(VALUES)
def test_what_is_written_is_read(value: object) -> None:
    data = encode(value)
    assert decode(data) == value
    assert encode(decode(data)) == data


@given(st.binary(max_size=60))
@settings(max_examples=500)
def test_any_bytes_are_the_one_form_of_a_value_or_refused(data: bytes) -> None:
    try:
        value = decode(data)
    except InvalidInput:
        return
    assert encode(value) == data


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ("f97e00", "encoding.type"),  # NaN
        ("f93c00", "encoding.type"),  # 1.0
        ("fb3ff199999999999a", "encoding.type"),  # 1.1
        ("f7", "encoding.type"),  # undefined
        ("e0", "encoding.type"),  # a simple value
        ("c11a514b67b0", "encoding.type"),  # tag 1: a time
        ("c249010000000000000000", "encoding.range"),  # tag 2: a large integer
        ("d9d9f700", "encoding.not_deterministic"),  # tag 55799: "this is CBOR"
        ("a2616101616102", "encoding.malformed"),  # a key twice
        ("a2616201616101", "encoding.not_deterministic"),  # keys in another order
        ("a2626161016162 02", "encoding.not_deterministic"),
        ("a10102", "encoding.malformed"),  # a key that is no text
        ("a1410102", "encoding.key"),
        ("1800", "encoding.not_deterministic"),  # a longer form of 0
        ("1900ff", "encoding.not_deterministic"),
        ("580100", "encoding.not_deterministic"),
        ("9f00ff", "encoding.malformed"),  # indefinite lengths
        ("7f6161ff", "encoding.malformed"),
        ("0000", "encoding.not_deterministic"),  # something behind it
        ("61ff", "encoding.malformed"),  # no UTF-8
        ("62", "encoding.malformed"),  # cut off
        ("", "encoding.malformed"),
        ("ff", "encoding.malformed"),
        ("9b7fffffffffffffff", "encoding.malformed"),  # a length that nothing could hold
        ("5b7fffffffffffffff", "encoding.malformed"),
    ],
)
def test_other_forms_are_refused(data: str, code: str) -> None:
    assert refused(bytes.fromhex(data)) == code


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (1.0, "encoding.type"),
        (float("nan"), "encoding.type"),
        ((1, 2), "encoding.type"),
        ({1: 2}, "encoding.key"),
        ({"k" * 41: 1}, "encoding.key"),
        ({"ü" * 21: 1}, "encoding.key"),
        (1 << 64, "encoding.range"),
        (-(1 << 64) - 1, "encoding.range"),
        ("\ud800", "encoding.text"),
        ({"\ud800": 1}, "encoding.text"),
        (nested(DEPTH_MAX + 1), "encoding.too_deep"),
    ],
)
def test_other_values_are_not_written(value: object, code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        encode(value)
    assert caught.value.code == code


def test_depth() -> None:
    assert decode(encode(nested(DEPTH_MAX))) == nested(DEPTH_MAX)
    assert refused(b"\x81" * (DEPTH_MAX + 1) + b"\x80") in {"encoding.too_deep", "encoding.malformed"}
    assert refused(b"\x81" * 100_000 + b"\x00") == "encoding.malformed"


def bomb(width: int, levels: int) -> bytes:
    """Lists that each hold the one before `width` times, by reference (tags 28 and 29)."""
    shared = [b"\xd8\x1c" + cbor2.dumps([0] * width)]
    shared += [b"\xd8\x1c\x98" + bytes([width]) + (b"\xd8\x1d" + bytes([at])) * width for at in range(levels - 1)]
    return bytes([0x80 | levels]) + b"".join(shared)


def test_references_do_not_unfold() -> None:
    """4 kB that would be 100^15 elements."""
    assert refused(bomb(100, 15)) == "encoding.not_deterministic"


def test_string_references_do_not_unfold() -> None:
    text = b"\x59\x10\x00" + bytes(4096)
    data = b"\xd9\x01\x00\x99\x03\xe9" + text + b"\xd8\x19\x00" * 1000
    assert refused(data) in {"encoding.not_deterministic", "encoding.malformed"}


def test_keys_with_one_hash_are_not_compared() -> None:
    """Integer keys that all have the same hash would keep a machine busy; they are no keys here."""
    keys = b"".join(b"\x1b" + (at * (2**61 - 1) % 2**64).to_bytes(8, "big") + b"\x00" for at in range(1, 8))
    assert refused(b"\xba\x00\x01\x00\x00" + keys * 9362 + b"\x00" * 4) == "encoding.malformed"


def test_a_hash_for_one_purpose_fits_no_other() -> None:
    assert tagged_hash("a", b"b") == hashlib.sha256(b"a\0b").digest()
    assert tagged_hash("a", b"b") != tagged_hash("ab", b"") != tagged_hash("", b"ab")


def outcome(several: list[bytes], *, together: bool) -> object:
    """What decoding gives, or why it does not."""
    try:
        return decode_all(several) if together else [decode(data) for data in several]
    except InvalidInput as error:
        return error.code, error.message


@given(st.lists(VALUES, max_size=30))
def test_several_are_decoded_as_each_alone(values: list[Any]) -> None:
    encoded = [encode(value) for value in values]
    assert decode_all(encoded) == values


@given(st.lists(st.binary(max_size=12) | VALUES.map(encode), max_size=6))
def test_whatever_is_refused_alone_is_refused_among_others(several: list[bytes]) -> None:
    assert outcome(several, together=True) == outcome(several, together=False)


@pytest.mark.parametrize(
    "several",
    [
        [b"\x82\x01", b"\x02", b"\x03"],  # an array that is cut in two
        [b"\x01\x02", b""],  # two in the place of one
        [b"", b"\x01\x02"],
        [b"\xd8\x1c\x81\x01", b"\xd8\x1d\x00"],  # a reference to a part of the one before
        [b"\x18\x01", b"\x01"],  # an integer that is longer than it need be
        [b"\xa2\x61b\x01\x61a\x02"],  # keys out of order
        [b"\xf9\x3c\x00"],  # a float
        [b"\x81" * (DEPTH_MAX + 1) + b"\x80"],  # too deep
        [b"\xff", b"\x01"],
    ],
)
def test_what_only_looks_right_among_others_is_refused(several: list[bytes]) -> None:
    assert isinstance(found := outcome(several, together=True), tuple)
    assert found == outcome(several, together=False)


def test_values_of_the_greatest_depth_are_decoded_together() -> None:
    assert decode_all([encode(nested(DEPTH_MAX))] * 2) == [nested(DEPTH_MAX)] * 2
