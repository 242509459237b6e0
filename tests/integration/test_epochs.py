"""Epochs of a real network: closed whatever dies meanwhile, fetched and verified by a stranger."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from fallow.domain.epochs.manifest import MANIFEST, STATEMENT, path_of
from fallow.domain.errors import NotFound
from fallow.domain.views.epochs import EpochView
from tests.dying import CLOSING
from tests.network import Net, check_books, fallow, network, until, until_async
from tests.programs import SECOND


async def ended(net: Net) -> int:
    """End the open epoch, however often the role that is asked dies of it; what number it had."""
    (before,) = await net.fetch("SELECT max(epoch) AS epoch FROM ingest.epoch_end")
    found: list[int] = []

    async def has_ended() -> bool:
        (now,) = await net.fetch("SELECT max(epoch) AS epoch FROM ingest.epoch_end")
        if now["epoch"] == before["epoch"]:
            await net.operator.end_epoch()
            return False
        found.append(now["epoch"])
        return True

    await until_async(has_ended, "the epoch ends")
    return found[0]


async def closed(net: Net, epoch: int) -> EpochView:
    """Wait for the closing of an epoch."""
    found: list[EpochView] = []

    async def is_closed() -> bool:
        try:
            found.append(await net.operator.epoch(epoch))
        except NotFound:
            return False
        return True

    await until_async(is_closed, f"epoch {epoch} is closed")
    return found[0]


async def test_a_closing_dies_at_every_step_and_a_stranger_verifies_all_epochs(tmp_path: Path) -> None:
    steps = tmp_path / "steps"
    steps.mkdir()
    async with network(steps=steps, split_core="true") as net, net.agents("barn") as (barn,):
        order = await net.submit([SECOND // 20])
        await net.finished(order.id)
        views = []
        for some in (CLOSING[:4], CLOSING[4:]):  # whoever dies often in a row is started again later each time
            for step in some:
                (steps / step).touch()
            views.append(await closed(net, await ended(net)))
            await until(lambda: not list(steps.iterdir()), "they have died of all")
        first, second = views
        counts = "SELECT sum(records) AS records, count(*) AS batches FROM ingest.batch WHERE epoch = $1"
        (row,) = await net.fetch(counts, first.epoch)
        assert (first.records, first.batches) == (row["records"], row["batches"])
        assert first.records >= 4  # it enrolled, offered, accepted, and said what it used
        assert (second.epoch, second.previous, second.from_ms) == (first.epoch + 1, first.statement, first.until_ms)
        assert [each.epoch for each in await net.buyer.epochs(limit=2)] == [second.epoch, first.epoch]
        await verify(net, first.epoch, tmp_path / "fetched")
        await verify(net, second.epoch, tmp_path / "fetched", follows=True)
        (row,) = await net.fetch("SELECT count(*) AS sealed FROM ingest.opening")
        assert row["sealed"] >= 1  # the machine's name, and who has paid
        names_nobody(tmp_path / "fetched", b"barn", net.first.account)
        await net.fetch("DELETE FROM ingest.opening")  # whoever it was about is erased
        await verify(net, first.epoch, tmp_path / "fetched again")
        said = await fallow("agent", "promises", "--home", barn.home, "--json")
        assert said.code == 0, said
        kept = json.loads(said.out)
        assert kept["broken"] == []
        assert kept["kept"] >= 3
        await check_books(net)


def names_nobody(archive: Path, label: bytes, payer: str) -> None:
    """No file tells a machine's name or address, or who paid."""
    hidden = (label, payer.lower().encode(), bytes.fromhex(payer.removeprefix("0x")), b"127.0.", b"localhost")
    files = [file for file in archive.rglob("*") if file.is_file()]
    assert len(files) >= 10
    for file in files:
        data = file.read_bytes()
        assert not [each for each in hidden if each in data or each in data.lower()], file


async def verify(net: Net, epoch: int, folder: Path, *, follows: bool = False) -> None:
    """Fetch an epoch as a stranger does, who has a URL and the network's key."""
    key = (await net.buyer.network()).public_key
    ca = ("--ca", net.running.ca) if net.running.ca else ()
    said = await fallow("epoch", "fetch", str(epoch), "--from", net.url, *ca, "--into", folder, "--key", key, "--json")
    assert said.code == 0, said
    found = json.loads(said.out)
    assert (found["epoch"], found["follows"]) == (epoch, follows)
    for name in (STATEMENT, MANIFEST, "batches"):
        ours = (net.data / "archive" / path_of(epoch, name)).read_bytes()
        assert hashlib.sha256(ours).digest() == hashlib.sha256((folder / path_of(epoch, name)).read_bytes()).digest()
