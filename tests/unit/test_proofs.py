"""What an account is owed, with the way to the root, read from an archive without its other leaves."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.epochs.leaves import LEAF_BYTES, leaves_of, tree_over, write_leaves
from fallow.domain.epochs.manifest import path_of
from fallow.domain.errors import InvalidInput, NotFound
from fallow.domain.identity import address_text
from fallow.domain.rewards.tree import Leaf, proves, root_of
from tests.closed_epochs import ClosedEpoch
from tests.unit.fake_network import FakeNetwork, fake_network
from tests.unit.sdk_world import connected

ASSETS = [b"\x05" * 20, b"\x07" * 20]
LEAVES = sorted(Leaf(bytes([n]) * 20, asset, 10**27 + n) for n in range(1, 60) for asset in ASSETS[: 1 + n % 2])


@pytest.fixture
async def network() -> AsyncIterator[FakeNetwork]:
    async with fake_network() as made:
        closed = ClosedEpoch(epoch=9, leaves=LEAVES)
        closed.files["tree"] = tree_over(LEAVES)
        for name, data in closed.files.items():
            made.archive.put(path_of(9, name), data)
        yield made


async def test_each_account_has_its_leaves_and_each_leads_to_the_root(network: FakeNetwork) -> None:
    root = root_of(tree_over(LEAVES))
    async with connected(network) as client:
        for number in (1, 2, 31, 59):
            account = bytes([number]) * 20
            found = await client.proofs(9, address_text(account))
            leaves = [Leaf(account, bytes.fromhex(one.asset[2:]), int(one.cumulative)) for one in found]
            assert leaves == [leaf for leaf in LEAVES if leaf.account == account]
            for leaf, one in zip(leaves, found, strict=True):
                assert proves(root, leaf, [bytes.fromhex(node[2:]) for node in one.proof])


async def test_who_is_owed_nothing_has_no_leaf(network: FakeNetwork) -> None:
    async with connected(network) as client:
        assert await client.proofs(9, "0x" + "ee" * 20) == []
        with pytest.raises(InvalidInput):
            await client.proofs(9, "0x12")


async def test_an_epoch_that_is_not_closed_or_has_no_tree_says_so(network: FakeNetwork) -> None:
    for name, data in ClosedEpoch(epoch=10, leaves=LEAVES).files.items():
        network.archive.put(path_of(10, name), data)
    async with connected(network) as client:
        with pytest.raises(NotFound, match=r"epoch\.no_proofs"):
            await client.proofs(10, "0x" + "01" * 20)
        with pytest.raises(NotFound, match=r"epoch\.not_closed"):
            await client.proofs(11, "0x" + "01" * 20)


@given(st.sets(st.integers(0, 40)), st.integers(0, 40))
def test_bisection_finds_what_reading_all_of_it_does(there: set[int], wanted: int) -> None:
    leaves = [Leaf(bytes([n]) * 20, asset, n) for n in there for asset in ASSETS]
    file, account = write_leaves(leaves), bytes([wanted]) * 20
    assert len(file) == LEAF_BYTES * len(leaves)
    assert leaves_of(file, account) == sorted(leaf for leaf in leaves if leaf.account == account)
