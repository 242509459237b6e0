"""The file of leaves has one form, and the tree over it is the one that the contract reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.epochs.leaves import read_leaves, totals_of, tree_over, write_leaves
from fallow.domain.errors import InvalidInput
from fallow.domain.rewards.tree import Leaf, build_tree, proof_of, proves, root_of

ADDRESS = st.binary(min_size=20, max_size=20)
LEAVES = st.lists(
    st.builds(Leaf, ADDRESS, ADDRESS, st.integers(0, 1 << 100)), unique_by=lambda leaf: (leaf.account, leaf.asset)
)


@given(LEAVES)
def test_what_was_written_is_read_in_order(leaves: list[Leaf]) -> None:
    found = list(read_leaves(write_leaves(leaves)))
    assert found == sorted(leaves)
    for asset, total in totals_of(found).items():
        assert total == sum(leaf.cumulative for leaf in leaves if leaf.asset == asset)


@given(LEAVES.filter(bool), st.data())
def test_every_leaf_is_proven_by_the_root(leaves: list[Leaf], data: st.DataObject) -> None:
    leaf = data.draw(st.sampled_from(leaves))
    assert proves(root_of(tree_over(leaves)), leaf, proof_of(build_tree(leaves), leaf))


def test_the_root_of_nothing_proves_nothing() -> None:
    assert root_of(tree_over([])) == bytes(32)
    assert not proves(bytes(32), Leaf(bytes(20), bytes(20), 0), [])


@given(LEAVES.filter(bool), st.data())
def test_another_form_is_refused(leaves: list[Leaf], data: st.DataObject) -> None:
    written = write_leaves(leaves)
    twisted = [written[:-1], written + written[-96:], b"\1" + written[1:], written[:32] + b"\1" + written[33:]]
    if len(leaves) > 1:
        twisted.append(written[96:] + written[:96])
    with pytest.raises(InvalidInput, match="leaves"):
        list(read_leaves(data.draw(st.sampled_from(twisted))))


def test_two_amounts_for_one_account_are_refused() -> None:
    with pytest.raises(InvalidInput, match="there twice"):
        write_leaves([Leaf(bytes(20), bytes(20), 1), Leaf(bytes(20), bytes(20), 2)])
