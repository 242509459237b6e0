"""Sealed names open to themselves, keep order and beginnings, and hand on what lies below, and nothing beside it."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.errors import InvalidInput
from fallow.verticals.storage.core.names import below, open_name, seal_name

secrets = st.binary(min_size=32, max_size=32)
names = st.one_of(st.binary(max_size=40), st.text(st.sampled_from("ab/"), max_size=12).map(str.encode))


@given(secrets, names)
def test_a_sealed_name_opens(secret: bytes, name: bytes) -> None:
    sealed = seal_name(secret, name)
    assert len(sealed) == 2 * len(name)
    assert open_name(secret, sealed) == name


@given(secrets, st.lists(names, max_size=20))
def test_sealed_names_stand_in_the_names_order(secret: bytes, listed: list[bytes]) -> None:
    assert [open_name(secret, sealed) for sealed in sorted(seal_name(secret, name) for name in listed)] == sorted(
        listed
    )


@given(secrets, names, names)
def test_one_beginning_is_one_sealed_beginning(secret: bytes, name: bytes, other: bytes) -> None:
    shared = next(
        (at for at, (a, b) in enumerate(zip(name, other, strict=False)) if a != b), min(len(name), len(other))
    )
    sealed, sealed_other = seal_name(secret, name), seal_name(secret, other)
    assert sealed[: 2 * shared] == sealed_other[: 2 * shared]
    if shared < min(len(name), len(other)):
        assert sealed[2 * shared : 2 * shared + 2] != sealed_other[2 * shared : 2 * shared + 2]


@given(secrets, st.binary(max_size=10).filter(lambda part: b"/" not in part), names)
def test_the_secret_below_a_part_opens_what_lies_there(secret: bytes, part: bytes, name: bytes) -> None:
    sealed = seal_name(secret, part + b"/" + name)
    assert open_name(below(secret, part), sealed[2 * len(part) + 2 :]) == name


@given(secrets, secrets, st.binary(min_size=8, max_size=20))
def test_another_secret_does_not_open(secret: bytes, other: bytes, name: bytes) -> None:
    if secret != other:
        with contextlib.suppress(InvalidInput):
            assert open_name(other, seal_name(secret, name)) != name


@given(secrets, st.binary(max_size=30))
def test_bytes_that_nobody_sealed_open_to_what_seals_to_them_or_not_at_all(secret: bytes, sealed: bytes) -> None:
    try:
        name = open_name(secret, sealed)
    except InvalidInput:
        return
    assert seal_name(secret, name) == sealed


def test_half_a_byte_is_refused() -> None:
    with pytest.raises(InvalidInput):
        open_name(bytes(32), seal_name(bytes(32), b"ab")[:-1])
