"""A large network's rows as it writes them: nodes with owners and places, and closed epochs in which they earned."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, NamedTuple, cast

import asyncpg
import msgspec

from bench._shapes import offers
from fallow.adapters.clock import SystemClock
from fallow.bootstrap.keys import load_keys
from fallow.bootstrap.place import read_place
from fallow.bootstrap.settings import Settings
from fallow.bootstrap.settling import open_archive
from fallow.domain.epochs.filing import Filing
from fallow.domain.epochs.leaves import totals_of, tree_over, write_leaves
from fallow.domain.epochs.lines import Line, write_lines
from fallow.domain.epochs.manifest import MANIFEST, STATEMENT, File, path_of
from fallow.domain.epochs.statement import Statement
from fallow.domain.fees import Fees
from fallow.domain.offers import Offer
from fallow.domain.places import read_cell
from fallow.domain.rewards.tree import Leaf, root_of
from fallow.domain.verification import Standing
from fallow.services.market.brain import Brain
from fallow.services.market.field_map import draw as draw_map
from fallow.services.market.rounds import NO_SEED, Rounds
from fallow.services.market.totals import count

SETTLEMENT: Final = b"\x05" * 20
CITIES: Final = 400
SPREAD: Final = 1.5
"""Degrees around a city within which two thirds of its nodes are."""
OWNER_NODES: Final = 3
EPOCHS: Final = 30
DAY_MS: Final = 86_400_000
KINDS: Final = 5_000
"""Of machines."""


class Field(NamedTuple):
    """What was written: ids of nodes, their accounts, and the latest epoch."""

    nodes: list[bytes]
    accounts: list[bytes]
    epoch: int


async def fill(data: Path, nodes: int, devices: int, draw: random.Random) -> Field:
    """Write all of it into the folder and database of a network, which knows of it when it is started again."""
    accounts = [draw.randbytes(20) for _ in range(-(-nodes // OWNER_NODES))]
    ids = [draw.randbytes(32) for _ in range(nodes)]
    await _fill_tables(read_place(data).postgres_dsn, ids, accounts, draw)
    await asyncio.to_thread(_close_epochs, data, ids, accounts, devices)
    return Field(ids, accounts, EPOCHS)


async def made_s(nodes: int, draw: random.Random) -> tuple[float, float]:
    """Seconds of a processor in which the market counts so many nodes, and those in which it makes their map."""
    accounts = [draw.randbytes(20) for _ in range(-(-nodes // OWNER_NODES))]
    rounds = cast("Rounds", SimpleNamespace(brain=Brain(Fees(), NO_SEED)))
    for offer in _offers([draw.randbytes(32) for _ in range(nodes)], accounts, draw):
        rounds.brain.floor.offer(offer, 0)
    before = time.process_time()
    counted = await count(rounds, 0)
    between = time.process_time()
    drawn = (await draw_map(rounds, 0)).view(0)
    after = time.process_time()
    assert sum(counted.nodes.values()) == drawn.rest + sum(cell.nodes for cell in drawn.cells) == nodes
    return between - before, after - between


async def _fill_tables(dsn: str, ids: list[bytes], accounts: list[bytes], draw: random.Random) -> None:
    server: asyncpg.Connection[Any] = await asyncpg.connect(dsn)

    async def copy(table: str, columns: Sequence[str], rows: Iterable[tuple[object, ...]]) -> None:
        schema, name = table.split(".")
        await server.copy_records_to_table(name, schema_name=schema, columns=columns, records=rows)
        await server.execute(f"ANALYZE {table}")

    try:
        await copy("registry.account", ["account", "created_at"], ((one, 0) for one in accounts))
        await copy(
            "registry.node",
            ["node", "account", "label", "enrolled_at"],
            ((node, _owner(number, accounts), f"machine {number}", 0) for number, node in enumerate(ids)),
        )
        now = SystemClock().now_ms()
        lines = (
            (node, f"{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}.0/24", now)
            for number, node in enumerate(ids)
        )
        await copy("registry.connection", ["node", "network", "seen_at"], lines)
        proven = msgspec.json.encode(Standing(confirmed=100))
        await copy("market.standing", ["node", "doc"], ((node, proven) for node in ids))
        made = _offers(ids, accounts, draw)
        await copy("market.offer", ["node", "doc"], ((one.node, msgspec.json.encode(one)) for one in made))
    finally:
        await server.close()


def _owner(number: int, accounts: list[bytes]) -> bytes:
    return accounts[number // OWNER_NODES]


def _offers(ids: list[bytes], accounts: list[bytes], draw: random.Random) -> Iterator[Offer]:
    cities = [(draw.uniform(-50, 65), draw.uniform(-170, 170)) for _ in range(CITIES)]
    sizes = [1 / (rank + 1) for rank in range(CITIES)]
    made = offers(KINDS, draw)
    for number, (node, (north, east)) in enumerate(zip(ids, draw.choices(cities, sizes, k=len(ids)), strict=True)):
        cell = read_cell(f"{draw.gauss(north, SPREAD)},{draw.gauss(east, SPREAD)}")
        yield Offer(node=node, account=_owner(number, accounts), boot=1, made=made[number % len(made)], cell=cell)


def _close_epochs(data: Path, ids: list[bytes], accounts: list[bytes], devices: int) -> None:
    """Each device had a unit a day; only the latest epoch has everybody's lines."""
    place, keys = read_place(data), load_keys(data)
    archive = open_archive(data, Settings())
    for epoch in range(1, EPOCHS + 1):
        everybody = len(ids) if epoch == EPOCHS else min(100, len(ids))
        manifest = Filing(place.net, epoch, ()).manifest().encode()
        leaves = [_leaf(account, epoch) for account in accounts[: -(-everybody // OWNER_NODES)]]
        tree = tree_over(leaves)
        files = _files(ids[:everybody], accounts, devices // len(ids), leaves, tree)
        said = Statement(
            net=place.net,
            epoch=epoch,
            from_ms=(epoch - 1) * DAY_MS,
            until_ms=epoch * DAY_MS,
            manifest=hashlib.sha256(manifest).digest(),
            files=[_named(name, content) for name, content in files.items()],
            root=root_of(tree),
            leaf_count=len(leaves),
            settlement=SETTLEMENT,
            settlement_total=totals_of(leaves)[SETTLEMENT].to_bytes(32),
        )
        for name, content in {**files, MANIFEST: manifest}.items():
            archive.put(path_of(epoch, name), content)
        archive.create(path_of(epoch, STATEMENT), said.seal(keys.sign))


def _leaf(account: bytes, epoch: int) -> Leaf:
    return Leaf(account, SETTLEMENT, 1_000_000 * epoch)


def _files(ids: list[bytes], accounts: list[bytes], units: int, leaves: list[Leaf], tree: bytes) -> Mapping[str, bytes]:
    lines = [
        Line("devices", node, _owner(number, accounts), units, units, (333_333).to_bytes(32), bytes(32), [], [], [])
        for number, node in enumerate(ids)
    ]
    return {"lines": write_lines(lines), "leaves": write_leaves(leaves), "tree": tree}


def _named(name: str, content: bytes) -> File:
    return File(name=name, size=len(content), sha256=hashlib.sha256(content).digest(), count=0)
