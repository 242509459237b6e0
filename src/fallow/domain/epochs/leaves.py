"""The file `leaves` of an epoch: what every account is owed of every asset since the beginning, as the tree hashes it.

96 bytes a leaf, exactly as the contract's ABI encodes it (`Leaf.encode`), ascending by account and asset, each pair
once, nothing else. Whoever has the file can build the tree, find his own leaf by bisection, and add up the totals.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from fallow.domain.errors import InvalidInput
from fallow.domain.rewards.tree import ADDRESS_BYTES, Buffer, Leaf, Mapper, Nodes, build_tree

LEAF_BYTES: Final = 96
ASSETS_MAX: Final = 16
"""Of one account: a network has two."""
_WORD: Final = 32
_PAD: Final = bytes(_WORD - ADDRESS_BYTES)


def write_leaves(leaves: Iterable[Leaf]) -> bytes:
    """Write the file.

    Raises:
        InvalidInput: an account has two amounts of one asset, or a leaf does not encode.
    """
    data = b"".join(sorted(leaf.encode() for leaf in leaves))
    for _ in read_leaves(data):
        pass
    return data


def read_leaves(data: Buffer) -> Iterator[Leaf]:
    """Read the file.

    Raises:
        InvalidInput: it is not in the one form that `write_leaves` gives.
    """
    if len(data) % LEAF_BYTES:
        raise InvalidInput("epoch.leaves", f"A file of leaves has {LEAF_BYTES} bytes for each.")
    last = b""
    for at in range(0, len(data), LEAF_BYTES):
        raw = bytes(data[at : at + LEAF_BYTES])
        key = raw[: 2 * _WORD]
        if key <= last or not key.startswith(_PAD) or not key[_WORD:].startswith(_PAD):
            raise InvalidInput("epoch.leaves", f"Leaf {at // LEAF_BYTES} is out of order, there twice, or no address.")
        last = key
        yield leaf_of(raw)


def leaf_of(raw: bytes) -> Leaf:
    """Read one of the file's leaves, of which nothing is checked."""
    account, asset, amount = (raw[word : word + _WORD] for word in range(0, LEAF_BYTES, _WORD))
    return Leaf(account[-ADDRESS_BYTES:], asset[-ADDRESS_BYTES:], int.from_bytes(amount))


def totals_of(leaves: Iterable[Leaf]) -> dict[bytes, int]:
    """Add up what is owed of each asset."""
    totals: dict[bytes, int] = {}
    for leaf in leaves:
        totals[leaf.asset] = totals.get(leaf.asset, 0) + leaf.cumulative
    return totals


def tree_over(leaves: Iterable[Leaf], hashing: Mapper = map) -> bytes:
    """The tree over the leaves, its root first; 32 zero bytes where nobody is owed anything: they prove no leaf."""
    known = list(leaves)
    return bytes(build_tree(known, hashing)) if known else bytes(_WORD)


def leaves_of(file: Nodes, account: bytes) -> list[Leaf]:
    """Find the leaves of an account in the file, by bisection."""
    low, high = 0, len(file) // LEAF_BYTES
    wanted = _PAD + account
    while low < high:
        middle = (low + high) // 2
        if bytes(file[middle * LEAF_BYTES : middle * LEAF_BYTES + _WORD]) < wanted:
            low = middle + 1
        else:
            high = middle
    found = bytes(file[low * LEAF_BYTES : (low + ASSETS_MAX) * LEAF_BYTES])
    return [leaf for leaf in read_leaves(found) if leaf.account == account]
