"""Segments to pieces and back: from any that suffice, whatever their length, and nothing altered passes."""

from __future__ import annotations

import random

import pytest
from blake3 import blake3

from fallow.domain.errors import Conflict, InvalidInput
from fallow.verticals.storage.coding.code import Code
from fallow.verticals.storage.coding.segments import Encoder, rebuild, sealed_of
from fallow.verticals.storage.core.layout import BLOCK_BYTES, SHARE_BYTES, Layout, blocks_of
from fallow.verticals.storage.core.profiles import PROFILES, Profile
from fallow.verticals.storage.core.sealing import SegmentSeal, open_blocks, unwrap_key, wrap_key

KEY = bytes(range(32))
CODE = Code(4, 8)
Pieces = dict[int, memoryview]


def coded(code: Code, payload: bytes) -> tuple[Layout, Pieces, list[bytes]]:
    encoder = Encoder(code, KEY, len(payload))
    pieces = [bytearray() for _ in range(code.pieces)]
    for stripe in encoder.stripes(memoryview(payload)):
        for piece, share in zip(pieces, stripe.shares, strict=True):
            piece.extend(share)
    held = {number: memoryview(piece) for number, piece in enumerate(pieces)}
    return Layout(len(payload), code.needed), held, encoder.hashes()


def opened(layout: Layout, pieces: Pieces) -> bytes:
    sealed = memoryview(bytearray(layout.sealed_bytes))
    sealed_of(layout, pieces, sealed)
    payload = memoryview(bytearray(layout.payload))
    open_blocks(SegmentSeal(KEY, layout.blocks), range(layout.blocks), sealed, payload)
    return bytes(payload)


def empty(layout: Layout, numbers: set[int]) -> Pieces:
    return {number: memoryview(bytearray(layout.piece_bytes)) for number in sorted(numbers)}


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
@pytest.mark.parametrize("size", [0, 1, 100, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES, 30 * BLOCK_BYTES + 7])
def test_any_pieces_that_suffice_give_the_rest_and_the_payload(profile: Profile, size: int) -> None:
    draw = random.Random(size)
    code, payload = Code(profile.needed, profile.pieces), draw.randbytes(size)
    layout, pieces, hashes = coded(code, payload)
    assert {len(piece) for piece in pieces.values()} == {layout.piece_bytes}
    assert [blake3(piece).digest() for piece in pieces.values()] == hashes
    for _ in range(5):
        have = {number: pieces[number] for number in draw.sample(sorted(pieces), profile.needed)}
        want = empty(layout, pieces.keys() - have.keys())
        rebuild(code, layout, have, want)
        assert have | want == pieces
        assert opened(layout, have | want) == payload


def test_all_sets_of_pieces_that_suffice_do() -> None:
    code = Code(3, 7)
    layout, pieces, _ = coded(code, bytes(range(256)))
    for chosen in range(1 << code.pieces):
        have = {number: piece for number, piece in pieces.items() if chosen >> number & 1}
        want = empty(layout, pieces.keys() - have.keys())
        if len(have) < code.needed:
            with pytest.raises(Conflict) as refused:
                rebuild(code, layout, have, want)
            assert refused.value.code == "storage.pieces"
        else:
            rebuild(code, layout, have, want)
            assert have | want == pieces


def test_an_altered_moved_or_cut_block_does_not_open() -> None:
    layout, pieces, _ = coded(CODE, bytes(5 * BLOCK_BYTES))
    sealed = memoryview(bytearray(layout.sealed_bytes))
    sealed_of(layout, pieces, sealed)
    into = memoryview(bytearray(5 * BLOCK_BYTES))
    first, second, last = sealed[:SHARE_BYTES], sealed[SHARE_BYTES : 2 * SHARE_BYTES], sealed[4 * SHARE_BYTES :]
    flipped = memoryview(bytearray(first))
    flipped[70] ^= 1
    wrong = [
        (5, 0, flipped),
        (5, 1, first),
        (5, 0, second),
        (4, 3, sealed[3 * SHARE_BYTES : 4 * SHARE_BYTES]),
        (6, 4, last),
    ]
    for blocks, number, block in wrong:
        with pytest.raises(InvalidInput) as refused:
            open_blocks(SegmentSeal(KEY, blocks), [number], block, into)
        assert refused.value.code == "storage.altered"
    assert open_blocks(SegmentSeal(KEY, 5), [4], last, into) == BLOCK_BYTES


def test_a_range_is_read_from_the_pieces_that_hold_it() -> None:
    draw = random.Random(1)
    payload = draw.randbytes(13 * BLOCK_BYTES + 99)
    layout, pieces, _ = coded(CODE, payload)
    for _ in range(50):
        start, stop = sorted(draw.choices(range(len(payload) + 1), k=2))
        blocks = blocks_of(start, stop)
        parts = layout.where(blocks.start * SHARE_BYTES, min(blocks.stop * SHARE_BYTES, layout.sealed_bytes))
        sealed = b"".join(pieces[part.piece][part.start : part.stop] for part in parts)
        into = memoryview(bytearray(len(blocks) * BLOCK_BYTES))
        open_blocks(SegmentSeal(KEY, layout.blocks), blocks, memoryview(sealed), into)
        offset = blocks.start * BLOCK_BYTES
        assert into[start - offset : stop - offset] == payload[start:stop]


def test_whole_blocks_lie_in_full_stripes_where_they_fit() -> None:
    assert Layout(1024 * BLOCK_BYTES, 4).piece_bytes == 1024 * SHARE_BYTES // 4
    assert len(Layout(4 * 4 * BLOCK_BYTES, 4).where(0, SHARE_BYTES)) == 1
    with pytest.raises(ValueError, match="bytes 0 to 117 of 116"):
        Layout(100, 4).where(0, 117)


def test_a_segments_key_opens_under_its_secret_at_its_place_alone() -> None:
    wrapped = wrap_key(b"s" * 32, b"bucket/object/0", KEY, b"n" * 12)
    assert unwrap_key(b"s" * 32, b"bucket/object/0", wrapped) == KEY
    for secret, place, found in (
        (b"t" * 32, b"bucket/object/0", wrapped),
        (b"s" * 32, b"bucket/object/1", wrapped),
        (b"s" * 32, b"bucket/object/0", wrapped[:-1]),
        (b"s" * 32, b"bucket/object/0", b""),
    ):
        with pytest.raises(InvalidInput) as refused:
            unwrap_key(secret, place, found)
        assert refused.value.code == "storage.key"


@pytest.mark.parametrize(("needed", "pieces"), [(0, 4), (4, 4), (5, 4), (100, 256)])
def test_codes_that_do_not_exist_are_refused(needed: int, pieces: int) -> None:
    with pytest.raises(InvalidInput):
        Code(needed, pieces)


def test_shares_of_two_lengths_and_memory_that_cannot_be_written_to_are_refused() -> None:
    shares = [memoryview(bytearray(10 + (number == 5))) for number in range(8)]
    with pytest.raises(InvalidInput):
        CODE.encode(shares)
    with pytest.raises(InvalidInput):
        CODE.encode([memoryview(bytes(10))] * 8)
