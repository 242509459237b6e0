"""Finished work while the network is away: it waits on the disk, and nobody is blamed."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fallow.agent.runner import Runner
from fallow.agent.uploads import Uploads, finished_leases
from fallow.domain.errors import FallowError, InvalidInput, NotAllowed, Unavailable
from fallow.domain.facts import UsageReceipt
from tests.unit.agent_fakes import FakeClock, MemoryBlobs, World, eventually, settle
from tests.unit.test_agent import LEASE, serving

AWAY = Unavailable("agent.gateway", "The gateway cannot be reached.")
RESULT = b"what came out"
SHA256 = hashlib.sha256(RESULT).hexdigest()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def finish(world: World, lease: str = LEASE, content: bytes = RESULT) -> None:
    """The worker stores what came out, as real ones do, and says so."""
    assignment = world.worker.running[lease]
    path = assignment.workspace / "result"
    path.write_bytes(content)
    world.worker.finish(lease, result=await assignment.blobs.store(path))
    await settle()


def receipts(world: World) -> list[dict[str, Any]]:
    return world.ingest.bodies("usage.receipt")


async def test_what_is_finished_is_handed_in_when_the_network_is_back(world: World) -> None:
    async with serving(world):
        await world.propose(world.proposal())
        world.blobs.store_error = AWAY
        await finish(world)
        # The machine is free again, the workspace wiped, and the network still hears of the lease.
        assert not (world.home.work / LEASE).exists()
        await world.propose(world.proposal(2, cpu_milli=2000))
        await eventually(lambda: f"{2:032x}" in world.worker.running)
        await world.clock.advance(3600)
        assert not [body for body in receipts(world) if body["lease"].hex() == LEASE]
        assert LEASE in world.beats[-1].leases
        world.blobs.store_error = None
        await world.clock.advance(30)
        (said,) = [body for body in receipts(world) if body["lease"].hex() == LEASE]
        assert (said["ok"], said["result"].hex(), said["used_ms"]) == (True, SHA256, 1234)
        assert world.blobs.blobs[SHA256] == RESULT
        await world.clock.advance(5)
        assert LEASE not in world.beats[-1].leases
        assert list(world.home.uploads.iterdir()) == []


async def test_it_outlives_a_restart(world: World) -> None:
    async with serving(world):
        await world.propose(world.proposal())
        world.blobs.store_error = AWAY
        await finish(world)
    assert receipts(world) == []
    assert finished_leases(world.home.uploads) == 1
    async with world.network(), world.start():
        # The network hears of the new start, which ends what it knows of the old one, a little later than it could.
        await world.clock.advance(4)
        assert [beat for beat in world.beats if beat.boot == 2] == []
        await world.clock.advance(2)
        assert [beat.leases for beat in world.beats if beat.boot == 2] == [[LEASE]]
        world.blobs.store_error = None
        await world.clock.advance(30)
    (said,) = receipts(world)
    assert (said["ok"], said["result"].hex(), said["used_ms"]) == (True, SHA256, 1234)
    assert world.blobs.blobs[SHA256] == RESULT
    assert finished_leases(world.home.uploads) == 0


async def test_what_a_crash_broke_off_is_forgotten(world: World) -> None:
    async with serving(world):
        await world.propose(world.proposal())
        world.blobs.store_error = AWAY
        assignment = world.worker.running[LEASE]
        (assignment.workspace / "one").write_bytes(b"the first of two outputs")
        await assignment.blobs.store(assignment.workspace / "one")
        shutil.copytree(world.home.uploads, world.home.path / "as-it-was")
    shutil.rmtree(world.home.uploads)
    (world.home.path / "as-it-was").rename(world.home.uploads)
    async with serving(world):
        assert list(world.home.uploads.iterdir()) == []


@pytest.mark.parametrize("refusal", [NotAllowed("ticket.expired", "Too late."), InvalidInput("blob.hash", "No.")])
async def test_what_the_network_takes_no_more_is_nobodys_fault(world: World, refusal: FallowError) -> None:
    async with serving(world):
        await world.propose(world.proposal())
        await world.clock.advance(130)
        world.blobs.store_error = AWAY
        await finish(world)
        world.blobs.store_error = refusal
        await world.clock.advance(60)
    said = receipts(world)[-1]
    assert (said["window"], said["used_ms"], said["ok"], said["result"]) == (2, 0, False, None)
    assert (said["reason"], said["caused_by"]) == ("agent.not_handed_in", "nobody")
    assert list(world.home.uploads.iterdir()) == []


async def test_damaged_work_is_not_handed_in_under_its_old_name(world: World) -> None:
    async with serving(world):
        await world.propose(world.proposal())
        world.blobs.store_error = AWAY
        await finish(world)
        (world.home.uploads / LEASE / SHA256).write_bytes(b"bit rot")
        world.blobs.store_error = None
        await world.clock.advance(30)
    assert receipts(world)[-1]["reason"] == "agent.not_handed_in"


@pytest.mark.parametrize(("file", "said"), [("proposal", ["agent.not_handed_in"]), ("end", [])])
async def test_what_an_earlier_start_left_damaged_harms_nothing_else(world: World, file: str, said: list[str]) -> None:
    async with serving(world):
        await world.propose(world.proposal())
        world.blobs.store_error = AWAY
        await finish(world)
    (world.home.uploads / LEASE / file).write_bytes(b"torn")
    (world.home.uploads / "stray").write_bytes(b"no folder of a lease")
    world.blobs.store_error = None
    async with serving(world):
        await world.clock.advance(30)
        assert [body["reason"] for body in receipts(world)] == said
        await world.propose(world.proposal(2))
        await eventually(lambda: f"{2:032x}" in world.worker.running)
    assert not (world.home.uploads / LEASE).exists()


async def test_a_checkpoint_counts_only_when_the_network_has_it(world: World) -> None:
    async with serving(world):
        await world.propose(world.proposal(checkpoints=True))
        world.blobs.store_error = AWAY
        assignment = world.worker.running[LEASE]
        assert assignment.save is not None
        (assignment.workspace / "archive").write_bytes(b"half done")
        with pytest.raises(Unavailable):
            await assignment.save(assignment.workspace / "archive", 100)
    assert world.ingest.bodies("lease.checkpoint") == []


async def test_what_waits_is_bounded(tmp_path: Path) -> None:
    world = World(tmp_path)
    blobs = MemoryBlobs()
    blobs.store_error = AWAY
    uploads = Uploads(tmp_path / "uploads", lambda _: blobs, FakeClock(), random.Random(1), bytes_max=100)
    file = tmp_path / "file"
    file.write_bytes(bytes(50))
    kept = uploads.blobs(world.proposal(1))
    assert not uploads.full
    await kept.store(file)
    assert uploads.full
    file.write_bytes(bytes(51))
    with pytest.raises(Unavailable) as caught:
        await kept.store(file)
    assert caught.value.code == "agent.uploads_full"
    await uploads.forget(world.proposal(1).lease)
    assert not uploads.full
    assert list((tmp_path / "uploads").iterdir()) == []


async def test_new_leases_are_declined_while_too_much_waits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fallow.agent.uploads.Uploads.full", property(lambda _: True))
    async with serving(world):
        await world.propose(world.proposal())
        await settle()
    assert [body["reason"] for body in world.ingest.bodies("lease.declined")] == ["agent.uploads_full"]


# A full disk


@contextmanager
def full_disk(monkeypatch: pytest.MonkeyPatch, *, spare_mib: int = 0) -> Iterator[None]:
    """The file system of the agent's folder has no room; small files that are written already stay readable."""
    with monkeypatch.context() as patched:
        patched.setattr("fallow.agent.home.Home.free_mib", lambda _: spare_mib)
        yield


async def test_a_full_disk_declines_new_leases_with_a_reason(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(world):
        with full_disk(monkeypatch, spare_mib=100):
            await world.propose(world.proposal(1, disk_mib=64), world.proposal(2, disk_mib=16))
            await eventually(lambda: f"{2:032x}" in world.worker.running)
        await world.propose(world.proposal(3, disk_mib=64))
        await eventually(lambda: f"{3:032x}" in world.worker.running)
    assert [body["reason"] for body in world.ingest.bodies("lease.declined")] == ["agent.disk_full"]


async def test_what_a_full_disk_ends_is_the_owners_doing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async with serving(world):
        with monkeypatch.context() as patched:
            patched.setattr(Runner, "_assignment", no_room)
            await world.propose(world.proposal())
            await eventually(lambda: bool(receipts(world)))
    (said,) = receipts(world)
    assert (said["reason"], said["caused_by"], said["used_ms"]) == ("agent.disk_full", "owner", 0)


async def test_no_record_is_lost_by_a_full_disk(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(world):
        await world.propose(world.proposal())
        with monkeypatch.context() as patched:

            def full(*_: object) -> int:
                raise Unavailable("agent.disk_full", "The disk is full.")

            patched.setattr("fallow.agent.outbox_store.OutboxStore.append", full)
            await finish(world)
            await world.clock.advance(600)
            assert receipts(world) == []
        await world.clock.advance(5)
        assert len(receipts(world)) == 1


async def test_finished_work_that_cannot_be_kept_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = MemoryBlobs()
    blobs.store_error = AWAY
    uploads = Uploads(tmp_path / "uploads", lambda _: blobs, FakeClock(), random.Random(1))
    file = tmp_path / "file"
    file.write_bytes(RESULT)

    def no_room(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    proposal = World(tmp_path / "world").proposal()
    monkeypatch.setattr(os, "link", no_room)
    with pytest.raises(Unavailable) as caught:
        await uploads.blobs(proposal).store(file)
    assert caught.value.code == "agent.disk_full"
    # What is said then has no result, and does not wait for what there is not.
    receipt = UsageReceipt(lease=bytes.fromhex(LEASE), window=0, used_ms=0, final=True)
    assert await uploads.handed_in(LEASE, [receipt]) == [receipt]
    await uploads.forget(LEASE)
    assert list((tmp_path / "uploads").iterdir()) == []
