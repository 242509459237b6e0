"""One chunk of a piece, and how it is shown that it belongs to the piece's hash: BLAKE3's own tree. Pure.

BLAKE3 hashes chunks of 1,024 bytes and then pairs of chaining values up to the root, so the values beside a chunk's way
up prove it against the hash that is kept anyway. No library gives these values out. Here each of the sixteen words that
a compression works on is one long integer with a lane of 64 bits for each chunk (Python adds and shifts those in C):
numpy is not faster by enough to double the size of an agent. Paper: https://github.com/BLAKE3-team/BLAKE3-specs
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from fallow.verticals.storage.core.questions import Proof

CHUNK_BYTES: Final = 1024
BLOCK_BYTES: Final = 64
BLOCK_WORDS: Final = 16
VALUE_WORDS: Final = 8
LANE_BYTES: Final = 8
LANES_AT_ONCE: Final = 512
"""More do not fit into a processor's cache, and take longer each."""

_IV: Final = (
    0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19,
)  # fmt: skip
_PERMUTED: Final = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
_ROUNDS: Final = 7
_MIXED: Final = (
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
)  # fmt: skip
_CHUNK_START: Final = 1
_CHUNK_END: Final = 2
_PARENT: Final = 4
_ROOT: Final = 8

Value = bytes
"""A chaining value: 32 bytes."""


def chunks_of(length: int) -> int:
    """How many chunks a piece of so many bytes has; an empty one has one, which is empty."""
    return max(1, -(-length // CHUNK_BYTES))


def chunk_size(length: int, chunk: int) -> int:
    """How many bytes a chunk of it has; ValueError where there is no such chunk."""
    if not 0 <= chunk < chunks_of(length):
        raise ValueError(f"a piece of {length} bytes has no chunk {chunk}")
    return min(CHUNK_BYTES, length - chunk * CHUNK_BYTES)


def never() -> None:
    """Take no rest."""


def prove(data: bytes, chunk: int, rest: Callable[[], None] = never) -> tuple[bytes, list[Value]]:
    """Return a chunk of a whole piece, and what stands beside its way to the root, from below.

    Takes about a tenth of a second for 2 MB; for a thread. `rest` is called every millisecond or so, for this holds
    Python's lock all the time. ValueError where there is no such chunk.
    """
    size = chunk_size(len(data), chunk)
    level = _chunk_values(data, rest)
    at, beside = chunk, []
    while len(level) > 1:
        if at ^ 1 < len(level):
            beside.append(level[at ^ 1])
        level, at = _parents(level, rest), at >> 1
    return data[chunk * CHUNK_BYTES :][:size], beside


def verify(piece_hash: bytes, length: int, chunk: int, proof: Proof) -> bool:
    """Whether a proof shows chunk number `chunk` of the piece of `length` bytes that has this BLAKE3."""
    if not 0 <= chunk < chunks_of(length) or len(proof.data) != chunk_size(length, chunk):
        return False
    ways = _way_up(chunk, chunks_of(length))
    if len(proof.beside) != len(ways):
        return False
    value = _chunk_value(proof.data, chunk, root=not ways)
    for number, (is_right, other) in enumerate(zip(ways, proof.beside, strict=True)):
        pair = (other, value) if is_right else (value, other)
        flags = _PARENT | (_ROOT if number == len(ways) - 1 else 0)
        value = _parent(*pair, flags)
    return value == piece_hash


def _way_up(chunk: int, chunks: int) -> list[bool]:
    """For each pair that a chunk is in, from below, whether it is on the right."""
    ways = []
    while chunks > 1:
        if chunk ^ 1 < chunks:
            ways.append(bool(chunk & 1))
        chunk, chunks = chunk >> 1, -(-chunks // 2)
    return ways


# A level at a time: pairing from the left, with an odd one handed up as it is, makes BLAKE3's tree.


def _chunk_values(data: bytes, rest: Callable[[], None]) -> list[Value]:
    whole = len(data) // CHUNK_BYTES
    values: list[Value] = []
    for first in range(0, whole, LANES_AT_ONCE):
        lanes = min(LANES_AT_ONCE, whole - first)
        values += _whole_chunks(data[first * CHUNK_BYTES : (first + lanes) * CHUNK_BYTES], first, lanes, rest)
    if len(data) % CHUNK_BYTES or not data:
        values.append(_chunk_value(data[whole * CHUNK_BYTES :], whole, root=False))
    return values


def _whole_chunks(data: bytes, first: int, lanes: int, rest: Callable[[], None]) -> list[Value]:
    """The chaining values of so many whole chunks, the first of which has this number."""
    words = _words(data)
    step = CHUNK_BYTES // 4
    columns = [_column(words[at::step]) for at in range(step)]
    one = _every(lanes)
    counter = _column(array("Q", range(first, first + lanes)))
    value = [word * one for word in _IV]
    for at in range(0, step, BLOCK_WORDS):
        flags = (_CHUNK_START if at == 0 else 0) | (_CHUNK_END if at == step - BLOCK_WORDS else 0)
        value = _compress(value, columns[at : at + BLOCK_WORDS], counter, BLOCK_BYTES, flags, one)
        rest()
    return _rows(value, lanes)


def _parents(level: Sequence[Value], rest: Callable[[], None]) -> list[Value]:
    """The level above, where that is not the root."""
    pairs = len(level) // 2
    above: list[Value] = []
    for first in range(0, pairs, LANES_AT_ONCE):
        lanes = min(LANES_AT_ONCE, pairs - first)
        words = _words(b"".join(level[2 * first : 2 * (first + lanes)]))
        one = _every(lanes)
        block = [_column(words[at::BLOCK_WORDS]) for at in range(BLOCK_WORDS)]
        above += _rows(_compress([word * one for word in _IV], block, 0, BLOCK_BYTES, _PARENT, one), lanes)
        rest()
    return above + list(level[2 * pairs :])


def _chunk_value(data: bytes, number: int, *, root: bool) -> Value:
    """The chaining value of one chunk, or the hash, where it is the only one."""
    value = list(_IV)
    blocks = max(1, -(-len(data) // BLOCK_BYTES))
    for at in range(blocks):
        block = data[at * BLOCK_BYTES : (at + 1) * BLOCK_BYTES]
        last = at == blocks - 1
        flags = (_CHUNK_START if at == 0 else 0) | (_CHUNK_END | (_ROOT if root else 0) if last else 0)
        value = _compress(value, _words(block.ljust(BLOCK_BYTES, b"\0")), number, len(block), flags, 1)
    return _rows(value, 1)[0]


def _parent(left: Value, right: Value, flags: int) -> Value:
    return _rows(_compress(list(_IV), _words(left + right), 0, BLOCK_BYTES, flags, 1), 1)[0]


def _compress(value: Sequence[int], block: Iterable[int], counter: int, size: int, flags: int, one: int) -> list[int]:
    """Compress one block in each lane, the same `size` and `flags` in all; `one` has a 1 in each lane."""
    mask = 0xFFFFFFFF * one
    message = list(block)
    state = [
        *value, *(word * one for word in _IV[:4]), counter & mask, (counter >> 32) & mask, size * one, flags * one,
    ]  # fmt: skip
    for _ in range(_ROUNDS):
        for number, (ia, ib, ic, id_) in enumerate(_MIXED):
            a, b, c, d = state[ia], state[ib], state[ic], state[id_]
            a = (a + b + message[2 * number]) & mask
            d ^= a
            d = (d >> 16 | d << 16) & mask
            c = (c + d) & mask
            b ^= c
            b = (b >> 12 | b << 20) & mask
            a = (a + b + message[2 * number + 1]) & mask
            d ^= a
            d = (d >> 8 | d << 24) & mask
            c = (c + d) & mask
            b ^= c
            state[ia], state[ib], state[ic], state[id_] = a, (b >> 7 | b << 25) & mask, c, d
        message = [message[at] for at in _PERMUTED]
    return [state[at] ^ state[at + VALUE_WORDS] for at in range(VALUE_WORDS)]


def _words(data: bytes) -> array[int]:
    """Words of 32 bits, little-endian, one an item."""
    words = array("I", data)
    if sys.byteorder == "big":
        words.byteswap()
    return words


def _every(lanes: int) -> int:
    return int.from_bytes(b"\1\0\0\0\0\0\0\0" * lanes, "little")


def _column(items: array[int]) -> int:
    """One item a lane."""
    lanes = array("Q", items)
    if sys.byteorder == "big":
        lanes.byteswap()
    return int.from_bytes(lanes.tobytes(), "little")


def _rows(value: Sequence[int], lanes: int) -> list[Value]:
    """The values of all lanes, each as bytes."""
    columns = [word.to_bytes(lanes * LANE_BYTES, "little") for word in value]
    return [b"".join([column[at : at + 4] for column in columns]) for at in range(0, lanes * LANE_BYTES, LANE_BYTES)]
