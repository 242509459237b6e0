"""OpenZeppelin's standard Merkle tree over (account, asset, cumulative amount), as the distributor contract reads it.

A leaf is keccak(keccak(abi.encode(address, address, uint256))). Leaves stand sorted; the tree is one complete binary
tree in an array, its root first and its leaves from the end; an inner node is keccak of its two children, the smaller
first. (npm's @openzeppelin/merkle-tree, `StandardMerkleTree`.)

The array is one buffer of 32-byte nodes, so that a tree of millions of leaves is a file and a
proof is some reads of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol

from sha3 import keccak_256

from fallow.domain.errors import InvalidInput, NotFound

NODE_BYTES: Final = 32
ADDRESS_BYTES: Final = 20
AMOUNT_MAX: Final = (1 << 256) - 1
CHUNK_NODES: Final = 1 << 16
_PAD: Final = bytes(12)

Buffer = bytes | bytearray | memoryview


class Nodes(Protocol):
    """A tree's array, wherever it lies: parts of it are read by their bytes."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Buffer: ...


Mapper = Callable[[Callable[[bytes], bytes], Iterable[bytes]], Iterable[bytes]]
"""As the built-in `map`; a pool's map spreads the hashing over processors and gives the same tree."""


class Leaf(NamedTuple):
    """What an account is owed of an asset since the beginning; both are EVM addresses of 20 bytes."""

    account: bytes
    asset: bytes
    cumulative: int

    def encode(self) -> bytes:
        """The arguments as the ABI encodes them: 96 bytes.

        Raises:
            InvalidInput: an address of another length, or an amount that 256 bits do not hold.
        """
        if len(self.account) != ADDRESS_BYTES or len(self.asset) != ADDRESS_BYTES:
            raise InvalidInput("rewards.address", f"An address has {ADDRESS_BYTES} bytes.")
        if not 0 <= self.cumulative <= AMOUNT_MAX:
            raise InvalidInput("rewards.amount", "An amount is not negative and fits into 256 bits.")
        return _PAD + self.account + _PAD + self.asset + self.cumulative.to_bytes(32)

    @property
    def hash(self) -> bytes:
        """The leaf's node."""
        return _leaf_hash(self.encode())


def build_tree(leaves: Iterable[Leaf], mapper: Mapper = map) -> bytearray:
    """The tree's array, 2n - 1 nodes for n leaves.

    Raises:
        InvalidInput: there are no leaves, or one does not encode.
    """
    hashes: list[bytes] = []
    for chunk in mapper(_leaf_hashes, _chunks(leaves)):
        hashes += _nodes(chunk)
    if not hashes:
        raise InvalidInput("rewards.empty", "A tree has at least one leaf.")
    hashes.sort(reverse=True)
    inner = len(hashes) - 1
    tree = bytearray(inner * NODE_BYTES) + b"".join(hashes)
    del hashes
    done = inner
    while done:  # nodes from `first` on have both children from `done` on, so they can be made at once, in any order
        first = done // 2
        children = (2 * first + 1, 2 * done + 1)
        tree[first * NODE_BYTES : done * NODE_BYTES] = b"".join(mapper(_parents, _pieces(tree, *children)))
        done = first
    return tree


def root_of(tree: Nodes) -> bytes:
    """The first node."""
    return bytes(tree[:NODE_BYTES])


def proof_of(tree: Nodes, leaf: Leaf) -> list[bytes]:
    """The siblings on the way from a leaf to the root, lowest first.

    Raises:
        NotFound: the tree does not hold this leaf.
    """
    place = _find(tree, leaf.hash)
    proof = []
    while place:
        proof.append(_node(tree, place + 1 if place % 2 else place - 1))
        place = (place - 1) // 2
    return proof


def proves(root: bytes, leaf: Leaf, proof: Sequence[bytes]) -> bool:
    """Whether `proof` leads from `leaf` to `root`, as the contract checks it."""
    node = leaf.hash
    for sibling in proof:
        node = _parent(node, sibling)
    return node == root


def _find(tree: Nodes, node: bytes) -> int:
    """Where a leaf stands: they are sorted, the largest first."""
    count = len(tree) // NODE_BYTES
    low, high = count // 2, count
    while low < high:
        middle = (low + high) // 2
        if _node(tree, middle) > node:
            low = middle + 1
        else:
            high = middle
    if low == count or _node(tree, low) != node:
        raise NotFound("rewards.no_leaf", "The tree holds no such leaf.")
    return low


def _node(tree: Nodes, place: int) -> bytes:
    return bytes(tree[place * NODE_BYTES : (place + 1) * NODE_BYTES])


def _nodes(buffer: bytes) -> Iterator[bytes]:
    return (buffer[at : at + NODE_BYTES] for at in range(0, len(buffer), NODE_BYTES))


def _chunks(leaves: Iterable[Leaf]) -> Iterator[bytes]:
    gathered: list[bytes] = []
    for leaf in leaves:
        gathered.append(leaf.encode())
        if len(gathered) == CHUNK_NODES:
            yield b"".join(gathered)
            gathered.clear()
    if gathered:
        yield b"".join(gathered)


def _pieces(tree: bytearray, first: int, end: int) -> Iterator[bytes]:
    """Pairs of children from node `first` to before `end`, in pieces."""
    for start in range(first, end, 2 * CHUNK_NODES):
        yield bytes(tree[start * NODE_BYTES : min(start + 2 * CHUNK_NODES, end) * NODE_BYTES])


def _leaf_hashes(encoded: bytes) -> bytes:
    return b"".join([_leaf_hash(encoded[at : at + 96]) for at in range(0, len(encoded), 96)])


def _leaf_hash(encoded: bytes) -> bytes:
    digest: bytes = keccak_256(keccak_256(encoded).digest()).digest()
    return digest


def _parents(children: bytes) -> bytes:
    pairs = range(0, len(children), 2 * NODE_BYTES)
    return b"".join([_parent(children[at : at + 32], children[at + 32 : at + 64]) for at in pairs])


def _parent(one: bytes, other: bytes) -> bytes:
    digest: bytes = keccak_256(one + other if one < other else other + one).digest()
    return digest
