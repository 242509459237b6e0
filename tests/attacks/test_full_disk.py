"""A real agent on a real file system that is full: it takes nothing new, loses nothing, and is blamed for nothing."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from fallow.adapters.blobs import FolderBlobs
from fallow.domain.errors import TooMuch, Unavailable
from fallow.verticals.compute.worker.wasm_files import BLOBS
from fallow.verticals.storage.core import wire
from fallow.verticals.storage.core.questions import Prove, Stock
from tests.capability import require
from tests.engines import reachable_folder
from tests.network import check_books, check_job, network, until_async
from tests.programs import SECOND
from tests.storage_node import PIECE, Node, sealed
from tests.streams_world import NETWORK
from tests.unit.agent_fakes import FakeClock

DISK_MIB = 400


@contextmanager
def small_disk() -> Iterator[Path]:
    """A file system of its own, in memory."""
    require("mounts")
    with reachable_folder() as folder:
        options = f"size={DISK_MIB}m,mode=0755"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], check=True)
        try:
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> Path:
    """Take every block that is left."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        while os.statvfs(folder).f_bavail:  # who works there may just have given some back
            with suppress(OSError):
                file.write(bytes(1 << 20))
    return filler


async def test_an_agent_whose_disk_is_full_loses_nothing() -> None:
    rounds = [2 * SECOND]
    with small_disk() as disk:
        async with network() as net, net.agent("barn", folder=str(disk / "barn")) as barn:
            running = await net.submit(rounds, on=[barn])
            await net.runs(running.id)

            async def begun() -> bool:
                return any(disk.rglob(BLOBS))

            await until_async(begun, "the program has its files")
            filler = fill(disk)

            async def done_and_unsaid() -> bool:
                status = await barn.ask("status")
                return "agent.disk_full" in status["closed_for"] and bool(status["disk_trouble"])

            waiting = await net.submit(rounds, on=[barn])
            await until_async(done_and_unsaid, "it could not write that it is done")
            assert (await net.job(running.id)).state == (await net.job(waiting.id)).state == "running"
            filler.unlink()
            for order in (running, waiting):
                await net.finished(order.id)
                await check_job(net, order.id, rounds)
                leases = await net.buyer.leases(order.id)
                assert {lease.caused_by for lease in leases} <= {"nobody", "owner"}, leases
            assert len(await net.buyer.leases(running.id)) == 1, "what ran when the disk was full was not lost"
            assert (await barn.ask("status"))["records_refused"] == []
            await check_books(net)


async def test_a_full_disk_under_a_lent_folder_takes_nothing_new_and_costs_no_piece(tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    with small_disk() as disk:
        made = Node(disk, FakeClock(), size="300MiB")
        made.ground = made.ground._replace(kept=tmp_path / "kept")
        async with made.running() as client:
            await client.put(made.terms.limit(1), data)
            before = await told(made)
            talk = client.open(wire.Put(sealed(NETWORK, made.terms.limit(2, piece=b"q" * 32)), len(data)))
            assert isinstance(await talk.hear(), wire.Go)
            filler = fill(disk)
            with pytest.raises(TooMuch) as refused:
                await client.put(made.terms.limit(3, piece=b"r" * 32), data)
            assert refused.value.code == "storage.full"
            assert (await told(made)).trouble.startswith("storage.full")
            with pytest.raises(TooMuch):
                await client.send_rest(talk, made.terms.limit(2, piece=b"q" * 32), data)
            assert await client.get(made.terms.limit(4, "get"), 0, len(data)) == data, "what is there is read"
            assert await made.worker.answer(msgspec.msgpack.encode(Prove(PIECE, 0))), "and shown to audits"
            filler.unlink()
            after = await told(made)
            assert (after.trouble, after.pieces) == ("", 1), "a full disk is no broken one"
            assert after.room_bytes == before.room_bytes, "nothing of what could not be kept takes room"
            await client.put(made.terms.limit(5, piece=b"q" * 32), data)
            assert await client.get(made.terms.limit(6, "get", piece=b"q" * 32), 0, len(data)) == data


async def told(made: Node) -> Stock:
    return msgspec.msgpack.decode(await made.worker.tell(), type=Stock)


async def test_a_network_whose_disk_is_full_says_so_and_keeps_no_part_of_what_it_could_not_take() -> None:
    with small_disk() as disk:
        blobs, data = FolderBlobs(disk / "blobs"), os.urandom(3 << 20)
        name = hashlib.sha256(data).hexdigest()

        async def sent() -> AsyncIterator[bytes]:
            yield data

        filler = fill(disk)
        with pytest.raises(Unavailable, match="no room") as refused:
            await blobs.put("a1" * 20, name, sent(), bytes_max=len(data))
        assert refused.value.code == "blob.no_room"
        filler.unlink()
        assert [path for path in disk.rglob("*") if path.is_file()] == []
        assert await blobs.put("a1" * 20, name, sent(), bytes_max=len(data)) == len(data)
