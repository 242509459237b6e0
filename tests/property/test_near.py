"""To be near is symmetric and reflexive, and binary fractions never decide otherwise than exact arithmetic."""

from __future__ import annotations

import io
import json
import struct
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fallow.verticals.compute.core.near import Margins, close, margins, near

finite = st.floats(allow_nan=False, allow_infinity=False)
decimals = st.builds(lambda mantissa, exponent: f"{mantissa}e{exponent}", st.integers(0, 999), st.integers(-300, 9))
exact = st.builds(margins, decimals, decimals)
NAMES = ["x.json", "x.npy", "x.csv", "stdout"]


def by_the_book(one: float, other: float, margin: Margins) -> bool:
    left, right = Fraction(one), Fraction(other)
    return abs(left - right) <= margin.atol + margin.rtol * max(abs(left), abs(right))


@given(finite, finite, exact)
@example(1.0, 1.0 + 2**-52, margins("2.220446049250313e-16", "0"))
@example(5e-324, 0.0, margins("1", "0"))
@example(1.7976931348623157e308, -1.7976931348623157e308, margins("2", "0"))
def test_binary_fractions_decide_as_exact_arithmetic_does(one: float, other: float, margin: Margins) -> None:
    assert close(one, other, margin) == by_the_book(one, other, margin) == close(other, one, margin)


@given(st.floats(1e-300, 1e300), st.integers(-8, 8), st.integers(1, 999))
def test_they_do_so_at_the_margin_itself(one: float, steps: int, parts: int) -> None:
    """Numbers that are as far apart as is allowed, a little less, a little more."""
    margin = margins(f"{parts}e-9", "0")
    apart = float(Fraction(one) * (1 + margin.rtol))
    (bits,) = struct.unpack("<q", struct.pack("<d", apart))
    (other,) = struct.unpack("<d", struct.pack("<q", max(0, bits + steps)))
    assert close(one, other, margin) == by_the_book(one, other, margin)


@given(st.sampled_from(NAMES), st.binary(max_size=60), st.binary(max_size=60), exact)
def test_whatever_bytes_there_are_the_relation_is_symmetric_and_reflexive(
    name: str, one: bytes, other: bytes, margin: Margins
) -> None:
    assert near(name, one, one, margin)
    assert near(name, one, other, margin) == near(name, other, one, margin)


values = st.recursive(
    st.none() | st.booleans() | st.text(max_size=3) | st.integers(-(10**30), 10**30) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(values, values, exact)
def test_so_it_is_for_all_of_json(one: object, other: object, margin: Margins) -> None:
    left, right = json.dumps(one).encode(), json.dumps(other, indent=1).encode()
    assert near("x.json", left, right, margin) == near("x.json", right, left, margin)
    assert near("x.json", left, json.dumps(one, indent=2).encode(), margin)


def array(numbers: list[float], descr: str, code: str, shape: tuple[int, ...] | None = None) -> bytes:
    header = repr({"descr": descr, "fortran_order": False, "shape": shape or (len(numbers),)}).encode()
    file = io.BytesIO()
    file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    file.write(struct.pack(f"{descr[0]}{len(numbers)}{code}", *numbers))
    return file.getvalue()


NAN = float("nan")


HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "descr": st.sampled_from(["<f8", "|f8", 5, None, "<O8"]),
        "shape": st.sampled_from([(1,), (), 3, ("a",), (-1, -1), [1], None]),
        "fortran_order": st.sampled_from([False, "x", None]),
    },
)


@given(
    st.builds(lambda header: repr(header).encode(), HEADERS)
    | st.sampled_from([b"5", b"{[]: 1}", b"(", b"\xff", b"1" * 10_001])
)
def test_an_array_that_is_none_is_near_itself_alone(header: bytes) -> None:
    whole = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(8)
    other = array([1], "<i8", "q")
    for end in (6, 9, 11, len(whole) - 8, len(whole)):
        assert not near("x.npy", whole[:end], other, margins("1", "1"))
        assert not near("x.npy", other, whole[:end], margins("1", "1"))


@pytest.mark.parametrize(
    ("name", "one", "other", "rtol", "atol", "says"),
    [
        ("x.csv", b"a,1.000\nb,-2e3\n", b"a,1.001\nb,-2001\n", "1e-3", "0", True),
        ("x.csv", b"a,1.000\nb,-2e3\n", b"a,1.002\nb,-2001\n", "1e-3", "0", False),
        ("x.csv", b"a,1", b"b,1", "1", "1", False),
        ("x.csv", b"a 1 2", b"a 1", "1", "1", False),
        ("x.txt", b"id7 0x10 1.2.3", b"id8 0x10 1.2.3", "9", "9", False),  # none of these is a number
        ("x.txt", b"it is 3.", b"it is 3.1.", "1", "0", False),
        ("x.txt", b"0.1", b"0.3", "0", "0.2", True),  # in binary fractions it would not be
        ("x.txt", b"0.1", b"0.30000000000000000000000001", "0", "0.2", False),
        ("x.txt", b"1e401", b"1.0e401", "1", "0", False),  # longer than a number ever is
        ("x.txt", b"1e0000000000401", b"2e0000000000401", "1", "0", False),  # zeros in front make it no shorter
        ("x.txt", b"1e-0000000000401", b"2e-0000000000401", "1", "0", False),
        ("x.json", b"[1e+0000000000005]", b"[100001]", "1e-3", "0", True),
        ("x.txt", b"1" * 1_000_000 + b"x", b"2", "1", "0", False),  # in time that grows with the text, not its square
        ("x.txt", b"1.5e" + b"1" * 1_000_000 + b"x", b"2", "1", "0", False),
        ("x.txt", b"1" + b" " * (8 << 20), b"1.0" + b" " * (8 << 20), "1", "0", False),
        ("x.txt", b"\xff1", b"\xff2", "1", "1", False),
        ("x.json", b'{"a": [1, 2.5], "b": "1"}', b'{"b": "1", "a": [1.0, 2.6]}', "0", "0.1", True),
        ("x.json", b'{"a": "1"}', b'{"a": "2"}', "9", "9", False),
        ("x.json", b"[1]", b"[true]", "9", "9", False),
        ("x.json", b"[NaN]", b"[NaN ]", "0", "0", True),
        ("x.json", b"[Infinity]", b"[-Infinity]", "9", "9", False),
        ("x.json", b"[" * 90_000, b"[" * 90_001, "9", "9", False),
        ("x.npy", array([1, NAN], "<f8", "d"), array([1.5, NAN], "<f8", "d"), "0", "0.5", True),
        ("x.npy", array([1, NAN], "<f8", "d"), array([1.5, 2], "<f8", "d"), "9", "9", False),
        ("x.npy", array([float("inf")], "<f8", "d"), array([1e308], "<f8", "d"), "1", "0", False),
        ("x.npy", array([1, 2], ">f4", "f"), array([1, 3], ">f4", "f"), "0.5", "0", True),
        ("x.npy", array([1, 2], "<i8", "q"), array([1, 3], "<i8", "q"), "0", "1", True),
        ("x.npy", array([1, 2], "<f8", "d"), array([1, 3], "<f8", "d", (2, 1)), "9", "9", False),
        ("x.npy", array([1, 2], "<f8", "d"), array([1, 2], ">f8", "d"), "9", "9", False),
        ("x.npy", array([1, 2], "<f8", "d"), array([1, 3], "<f8", "d")[:-1], "9", "9", False),
        ("x.npy", array([1], "<O8", "q"), array([2], "<O8", "q"), "9", "9", False),
    ],
)
def test_examples(name: str, one: bytes, other: bytes, rtol: str, atol: str, *, says: bool) -> None:
    margin = margins(rtol, atol)
    assert near(name, one, other, margin) is says
    assert near(name, other, one, margin) is says
