"""Pieces to audit are drawn by bytes, and the rarest node's too, without a list for each node."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fallow.ports.database import Row
from fallow.verticals.storage.control import sampling
from fallow.verticals.storage.control.sampling import PASS_MIN_MS, Reservoir, Sampler
from tests.unit.fake_network import HandClock

RARE = 99


class Segments:
    """A database that has segments in the order of their ids, and answers one query."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = sorted(rows, key=lambda row: row["id"])
        self.read = 0

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        """See the port."""
        yield self

    async def fetch(self, _: str, after: bytes, until: bytes | None, limit: int) -> Sequence[Row]:
        """See the port."""
        found = [row for row in self.rows if row["id"] > after and (until is None or row["id"] <= until)]
        self.read += len(found[:limit])
        return found[:limit]


def segment(draw: random.Random, *nodes: int) -> Row:
    return {"id": draw.randbytes(16), "payload": 100_000, "profile": "lab", "nodes": list(nodes)}


def test_pieces_are_drawn_by_their_bytes() -> None:
    draw = random.Random(1)
    drawn: Counter[bytes | None] = Counter()
    for _ in range(3000):
        reservoir = Reservoir(draw.random)
        for number in range(30):
            reservoir.meet(bytes([number]), [7, 0], 3000 if number < 10 else 1000)
        drawn[reservoir.draw(7)] += 1
    large = sum(drawn[bytes([number])] for number in range(10))
    assert 0.57 < large / 3000 < 0.63
    assert min(drawn.values()) > 20


def test_who_holds_little_has_each_piece_drawn_once() -> None:
    reservoir = Reservoir(random.Random(1).random)
    for name in (b"a", b"b", b"c"):
        reservoir.meet(name, [7], 100)
    assert {reservoir.draw(7) for _ in range(3)} == {b"a", b"b", b"c"}
    assert reservoir.draw(7) is None
    assert reservoir.draw(8) is None
    assert reservoir.held_bytes(7) == 300


@pytest.mark.parametrize("seed", range(5))
async def test_a_pass_meets_each_segment_once_and_the_rarest_node_in_it(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(sampling, "SEGMENTS_A_PAGE", 10)
    draw, clock = random.Random(seed), HandClock()
    rows = [segment(draw, 1, 2, 3) for _ in range(95)] + [segment(draw, 1, 2, RARE)]
    segments, sampler = Segments(rows), Sampler(clock, draw.random)
    while segments.read < len(rows):
        await sampler.read_on(segments)
    await sampler.read_on(segments)
    assert segments.read == len(rows)
    assert sampler.draw(RARE) == rows[-1]["id"]
    assert sampler.held_bytes(1) == len(rows) * sampler.held_bytes(RARE)
    await sampler.read_on(segments)
    assert segments.read == len(rows)
    clock.advance(PASS_MIN_MS)
    await sampler.read_on(segments)
    assert segments.read > len(rows)
