"""An archive that lacks what the network promised: nodes find it, and their proof convicts it before anybody."""

from __future__ import annotations

from pathlib import Path

import pytest

from fallow.adapters.archive import folder_archive
from fallow.agent.home import Home
from fallow.agent.identity import NodeKey
from fallow.agent.outbox_rows import Entry
from fallow.agent.outbox_store import OutboxStore, read_promises
from fallow.domain.epochs.manifest import STATEMENT, path_of
from fallow.domain.epochs.promises import BrokenPromise
from fallow.domain.epochs.statement import Statement
from fallow.domain.errors import FallowError, InvalidInput, NotAllowed, NotFound
from fallow.domain.facts import LeaseAccepted
from fallow.sdk.epochs import verify_epoch
from tests.epoch_files import NET, NETWORK, NETWORK_KEY, EpochFiles, Node, promise
from tests.unit.fake_network import fake_network
from tests.unit.sdk_world import connected

LEASE = LeaseAccepted(lease=bytes(16))


async def test_a_node_shows_that_its_last_batch_was_left_out(tmp_path: Path) -> None:
    """The operator drops the last batch of an epoch: no check of the archive alone can see it."""
    node = Node(1)
    batches = [node.batch(LEASE) for _ in range(3)]
    given = [promise(batches[0], 7), promise(batches[1], 7), promise(batches[2], 8)]
    async with fake_network() as network, connected(network, key="") as client:
        archive = folder_archive(tmp_path / "operator")
        EpochFiles(7, batches[:1], given[:1]).put(archive)
        assert verify_epoch(tmp_path / "operator", 7, NETWORK_KEY).batches == 1
        EpochFiles(7, batches[:1], given[:1]).put(network.archive)
        found = await client.check_promises(given, tmp_path / "node", NETWORK_KEY)
        assert (found.kept, found.open, len(found.broken)) == (1, 1, 1)
        evidence = BrokenPromise.decode(found.broken[0].encode())
        assert evidence.promise == given[1]
        assert await client.is_broken(evidence, tmp_path / "judge", NETWORK_KEY)
        # It convicts nobody else, and the network of nothing else.
        with pytest.raises(NotAllowed):
            await client.is_broken(evidence, tmp_path / "judge", bytes(32))
        kept = BrokenPromise(promise=given[0], statement=evidence.statement)
        assert not await client.is_broken(kept, tmp_path / "judge", NETWORK_KEY)
        with pytest.raises(InvalidInput, match=r"promise\.evidence"):
            await client.is_broken(BrokenPromise(promise=given[2], statement=evidence.statement), tmp_path, NETWORK_KEY)


async def test_a_batch_that_was_exchanged_breaks_the_promise_for_the_one_before(tmp_path: Path) -> None:
    """The operator puts other records under the same number, and another promise beside them."""
    honest, other = Node(1).batch(LEASE), Node(1).batch(LeaseAccepted(lease=b"x" * 16))
    async with fake_network() as network, connected(network, key="") as client:
        EpochFiles(7, [other]).put(network.archive)
        found = await client.check_promises([promise(honest, 7)], tmp_path, NETWORK_KEY)
        assert (found.kept, len(found.broken)) == (0, 1)


async def test_who_writes_the_archive_again_after_that_contradicts_his_own_statement(tmp_path: Path) -> None:
    node = Node(1)
    batches = [node.batch(LEASE) for _ in range(2)]
    async with fake_network() as network, connected(network, key="") as client:
        EpochFiles(7, batches[:1]).put(network.archive)
        (evidence,) = (await client.check_promises([promise(batches[1], 7)], tmp_path / "node", NETWORK_KEY)).broken
        repaired = EpochFiles(7, batches)
        repaired.put(network.archive)
        network.archive.put(path_of(7, STATEMENT), repaired.sealed())
        with pytest.raises(InvalidInput, match=r"archive\.manifest"):
            await client.is_broken(evidence, tmp_path / "judge", NETWORK_KEY)
        # Two statements for one epoch under one key: that, too, is proof.
        now = Statement.open((tmp_path / "judge" / path_of(7, STATEMENT)).read_bytes(), NETWORK_KEY)
        assert now != evidence.opened(NETWORK_KEY)[1]


def test_what_is_no_evidence_is_refused() -> None:
    for data in (b"", b"\x00", b"x" * (2 << 20), BrokenPromise(promise=b"", statement=b"").encode()):
        with pytest.raises(FallowError):
            BrokenPromise.decode(data).opened(NETWORK_KEY)


def test_an_agents_promises_are_read_beside_it(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    path = home.outbox(NET)
    with pytest.raises(NotFound, match=r"agent\.no_outbox"):
        read_promises(path)
    store = OutboxStore(path, net=NET, key=NodeKey(b"k" * 32), boot=1, next_boot=lambda: 2)
    store.append([Entry(LEASE, 5)])
    (waiting,) = store.oldest(1)
    given = promise(waiting.data, 7)
    store.promised(waiting, given, NETWORK_KEY)
    assert read_promises(path) == store.promises() == [given]
    store.close()
    assert bytes(NETWORK.verify_key) == NETWORK_KEY
