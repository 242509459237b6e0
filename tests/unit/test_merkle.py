"""Merkle trees as RFC 6962 has them."""

from __future__ import annotations

import hashlib

import pytest

from fallow.domain.merkle import GrowingTree, leaf_hash, merkle_proof, merkle_root, proves

LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
"""Of the first 0 to 8 of `LEAVES`: the reference vectors of Certificate Transparency."""


@pytest.mark.parametrize("size", range(9))
def test_known_roots(size: int) -> None:
    assert merkle_root(LEAVES[:size]).hex() == ROOTS[size]


def recursive(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, word by word."""
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + recursive(leaves[:split]) + recursive(leaves[split:])).digest()


@pytest.mark.parametrize("size", range(1, 34))
def test_all_proofs_hold_and_no_wrong_one_does(size: int) -> None:
    leaves = [b"leaf %d" % number for number in range(size)]
    root = merkle_root(leaves)
    assert root == recursive(leaves)
    for index, leaf in enumerate(leaves):
        path = merkle_proof(leaves, index)
        assert len(path) <= (size - 1).bit_length()
        assert proves(root, leaf, path)
        assert not proves(root, leaf + b"!", path)
        assert not proves(leaf_hash(root), leaf, path)
        for step, (is_left, sibling) in enumerate(path):
            assert not proves(root, leaf, path[:step] + path[step + 1 :])
            assert not proves(root, leaf, [*path[:step], (not is_left, sibling), *path[step + 1 :]])
            assert not proves(root, leaf, [*path[:step], (is_left, leaf_hash(sibling)), *path[step + 1 :]])
        for other in leaves[:index]:
            assert not proves(root, other, path)


def test_an_inner_node_is_no_leaf() -> None:
    leaves = [b"a", b"b", b"c", b"d"]
    inner = leaf_hash(b"a") + leaf_hash(b"b")
    assert not proves(merkle_root(leaves), inner, merkle_proof(leaves, 0)[1:])


@pytest.mark.parametrize("index", [-1, 3])
def test_no_proof_of_what_is_not_there(index: int) -> None:
    with pytest.raises(IndexError):
        merkle_proof([b"a", b"b", b"c"], index)


def test_a_tree_that_grows_has_at_each_size_the_root_of_all_its_leaves() -> None:
    tree, leaves = GrowingTree(), list[bytes]()
    for number in range(70):
        assert tree.root == merkle_root(leaves)
        assert len(tree.peaks) == tree.size.bit_count()
        leaves.append(number.to_bytes(2))
        tree = GrowingTree(tree.peaks, tree.size)  # as one who reads it back goes on
        tree.add(leaves[-1])
