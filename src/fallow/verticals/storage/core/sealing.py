"""Seals segments block by block, so that a range is read without the rest. Pure.

Each segment has a key of its own, drawn at random and used for nothing else, so that a block's number can be its nonce
(AES-256-GCM). The nonce also says which block is the last one: a segment cannot be cut short, and no block can stand
where another belongs. The key itself is sealed under a secret that follows from the object's path, and bound to the
object's segment by `place`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fallow.domain.errors import InvalidInput
from fallow.verticals.storage.core.layout import BLOCK_BYTES, SHARE_BYTES, TAG_BYTES

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
_WRAP: Final = "fallow storage 1: key of a segment"


class SegmentSeal:
    """Seals and opens the blocks of one segment of `blocks` blocks."""

    def __init__(self, key: bytes, blocks: int) -> None:
        self._aes = AESGCM(key)
        self._last = blocks - 1

    def seal(self, number: int, payload: memoryview, into: memoryview) -> None:
        """Seal block `number` into a buffer of `TAG_BYTES` more."""
        self._aes.encrypt_into(self._nonce(number), payload, None, into)

    def open(self, number: int, sealed: memoryview, into: memoryview) -> None:
        """Open block `number`.

        Raises:
            InvalidInput: `storage.altered`: this is not what was sealed there.
        """
        try:
            self._aes.decrypt_into(self._nonce(number), sealed, None, into)
        except InvalidTag as error:
            raise InvalidInput("storage.altered", f"Block {number} of the segment is not what was stored.") from error

    def _nonce(self, number: int) -> bytes:
        return number.to_bytes(NONCE_BYTES - 1) + bytes([number == self._last])


def wrap_key(secret: bytes, place: bytes, key: bytes, nonce: bytes) -> bytes:
    """Seal a segment's key. `nonce` has 12 bytes, drawn anew each time; `place` names the segment."""
    return nonce + AESGCM(_wrapping(secret)).encrypt(nonce, key, place)


def unwrap_key(secret: bytes, place: bytes, wrapped: bytes) -> bytes:
    """Open what `wrap_key` sealed.

    Raises:
        InvalidInput: `storage.key`: it was not sealed under this secret for this place.
    """
    try:
        return AESGCM(_wrapping(secret)).decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], place)
    except (InvalidTag, ValueError) as error:
        raise InvalidInput("storage.key", "This key does not open the object.") from error


def seal_blocks(seal: SegmentSeal, first: int, payload: memoryview, into: memoryview) -> int:
    """Seal the blocks of `payload` from number `first` on, one after the other; returns the bytes that they take."""
    end = 0
    for number, start in enumerate(range(0, len(payload), BLOCK_BYTES), start=first):
        block = payload[start : start + BLOCK_BYTES]
        seal.seal(number, block, into[end : end + len(block) + TAG_BYTES])
        end += len(block) + TAG_BYTES
    return end


def open_blocks(seal: SegmentSeal, numbers: Sequence[int], sealed: memoryview, into: memoryview) -> int:
    """Open blocks that stand one after the other; returns the bytes of their payload.

    Raises:
        InvalidInput: `storage.altered`.
    """
    end = 0
    for number, start in zip(numbers, range(0, len(sealed), SHARE_BYTES), strict=True):
        block = sealed[start : start + SHARE_BYTES]
        seal.open(number, block, into[end : end + len(block) - TAG_BYTES])
        end += len(block) - TAG_BYTES
    return end


def _wrapping(secret: bytes) -> bytes:
    return blake3(secret, derive_key_context=_WRAP).digest()
