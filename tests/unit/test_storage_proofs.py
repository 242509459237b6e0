"""Proofs of chunks: every chunk of every piece is shown, and nothing else passes for it."""

from __future__ import annotations

import random

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.verticals.storage.core import proofs
from fallow.verticals.storage.core.proofs import CHUNK_BYTES, chunks_of, prove, verify
from fallow.verticals.storage.core.questions import Proof

LENGTHS = [0, 1, 63, 64, 65, 1023, 1024, 1025, 2048, 2049, 3072, 5000, 7 * 1024, 8 * 1024, 65_536, 100_001]


def piece(length: int) -> bytes:
    return random.Random(length).randbytes(length)


def shown(data: bytes, chunk: int) -> Proof:
    chunk_data, beside = prove(data, chunk)
    return Proof(data=chunk_data, beside=beside, claim=b"")


@pytest.mark.parametrize("length", LENGTHS)
def test_each_chunk_of_a_piece_is_shown_against_its_blake3(length: int) -> None:
    data = piece(length)
    for chunk in {0, chunks_of(length) // 2, chunks_of(length) - 1}:
        assert verify(blake3(data).digest(), length, chunk, shown(data, chunk))
    for none in (-1, chunks_of(length)):
        with pytest.raises(ValueError, match="no chunk"):
            prove(data, none)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 40_000), st.data())
def test_any_length_and_any_chunk(length: int, data: st.DataObject) -> None:
    whole = piece(length)
    chunk = data.draw(st.integers(0, chunks_of(length) - 1))
    assert verify(blake3(whole).digest(), length, chunk, shown(whole, chunk))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20_000), st.data())
def test_nothing_else_passes_for_a_chunk(length: int, data: st.DataObject) -> None:
    whole = piece(length)
    chunk = data.draw(st.integers(0, chunks_of(length) - 1))
    good = shown(whole, chunk)
    root = blake3(whole).digest()
    at = data.draw(st.integers(0, len(good.data) - 1))
    flipped = bytes([*good.data[:at], good.data[at] ^ 1, *good.data[at + 1 :]])
    twins = [Proof(data=twin, beside=good.beside, claim=b"") for twin in (flipped, good.data[:-1], good.data + b"\0")]
    twins += [Proof(data=good.data, beside=[*good.beside, bytes(32)], claim=b"")]
    if good.beside:
        number = data.draw(st.integers(0, len(good.beside) - 1))
        other = [value if n != number else bytes(32) for n, value in enumerate(good.beside)]
        twins += [
            Proof(data=good.data, beside=other, claim=b""),
            Proof(data=good.data, beside=good.beside[:-1], claim=b""),
        ]
    assert not any(verify(root, length, chunk, twin) for twin in twins)
    assert not verify(bytes(32), length, chunk, good)
    elsewhere = data.draw(st.integers(0, chunks_of(length)))
    assert elsewhere == chunk or not verify(root, length, elsewhere, good)


def test_who_proves_rests_after_each_step_and_shows_the_same() -> None:
    data, rests = piece(1_200_000), []
    assert prove(data, 700, lambda: rests.append(1)) == prove(data, 700)
    assert len(rests) > chunks_of(len(data)) // proofs.LANES_AT_ONCE * CHUNK_BYTES // proofs.BLOCK_BYTES


def test_an_inner_node_is_no_chunk() -> None:
    """Chunks and pairs are hashed unlike: else two chaining values would pass for a chunk of 64 bytes."""
    data = piece(2 * CHUNK_BYTES)
    _, [right] = prove(data, 0)
    _, [left] = prove(data, 1)
    assert not verify(blake3(data).digest(), 64, 0, Proof(data=left + right, beside=[], claim=b""))


@pytest.mark.parametrize("lanes", [1, 3, 512])
def test_how_many_chunks_are_hashed_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch, lanes: int) -> None:
    data = piece(20_000)
    expected = prove(data, 11)
    monkeypatch.setattr(proofs, "LANES_AT_ONCE", lanes)
    assert prove(data, 11) == expected
