"""Merkle trees over byte strings, as RFC 6962 section 2.1 (SHA-256, leaves and nodes with different prefixes)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

_EMPTY: Final = hashlib.sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """Hash of one leaf."""
    return hashlib.sha256(b"\x00" + data).digest()


def _node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Root over the leaves' data. The empty tree has the hash of the empty string (RFC 6962)."""
    if not leaves:
        return _EMPTY
    level = [leaf_hash(leaf) for leaf in leaves]
    while len(level) > 1:
        level = _parents(level)
    return level[0]


class GrowingTree:
    """A tree that is known by its size and the roots of its largest full subtrees: adding to it needs no leaf again.

    `peaks` are these roots, the largest first: one for each bit that is set in `size`.
    """

    def __init__(self, peaks: Iterable[bytes] = (), size: int = 0) -> None:
        self.peaks = list(peaks)
        self.size = size

    def add(self, leaf: bytes) -> None:
        """Add one leaf at its end."""
        top = leaf_hash(leaf)
        self.size += 1
        for _ in range((self.size & -self.size).bit_length() - 1):  # as many as full subtrees of this size end here
            top = _node_hash(self.peaks.pop(), top)
        self.peaks.append(top)

    @property
    def root(self) -> bytes:
        """What `merkle_root` gives of all that was added."""
        if not self.peaks:
            return _EMPTY
        top = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            top = _node_hash(peak, top)
        return top


def merkle_proof(leaves: Sequence[bytes], index: int) -> list[tuple[bool, bytes]]:
    """Path from leaf `index` to the root: (sibling stands left, sibling's hash), lowest first."""
    if not 0 <= index < len(leaves):
        raise IndexError(index)
    level = [leaf_hash(leaf) for leaf in leaves]
    path: list[tuple[bool, bytes]] = []
    while len(level) > 1:
        sibling = index ^ 1
        if sibling < len(level):
            path.append((sibling < index, level[sibling]))
        level = _parents(level)
        index //= 2
    return path


def proves(root: bytes, leaf: bytes, path: Sequence[tuple[bool, bytes]]) -> bool:
    """Whether `path` leads from `leaf` to `root`."""
    current = leaf_hash(leaf)
    for sibling_is_left, sibling in path:
        current = _node_hash(sibling, current) if sibling_is_left else _node_hash(current, sibling)
    return current == root


def _parents(level: list[bytes]) -> list[bytes]:
    """Pair up neighbours; an odd one at the end moves up as it is, which gives RFC 6962's split at powers of two."""
    pairs = [_node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
    return [*pairs, level[-1]] if len(level) % 2 else pairs
