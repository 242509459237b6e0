"""What pages of the explorer ask, asked by strangers at a fixed rate: how long answers take, and which processor."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import httpx2

from bench._field_rows import Field
from bench._network import difference, processor_s
from fallow.domain.identity import address_text
from fallow.domain.places import parent, read_cell

RATE: Final = 50
STRANGERS: Final = 16
"""Addresses that ask: a gateway lets each ask ten times a second."""

ANSWER_S: Final = 30.0
LEAST_MS: Final = 0.1


class Asked(NamedTuple):
    """How long answers took, in milliseconds; the most bytes; what each program took of a processor for one of them.

    `refused` is how many were no answer, and `why` what the last of these said.
    """

    p50: float
    p95: float
    worst: float
    bytes: int
    processor_ms: Mapping[str, float]
    refused: int
    why: str

    def __str__(self) -> str:
        """Say it in a line; programs that took less than a tenth of a millisecond are left out."""
        took = ", ".join(f"{name} {ms:.1f}" for name, ms in self.processor_ms.items() if ms >= LEAST_MS)
        times = f"p50 {self.p50:6.1f}  p95 {self.p95:6.1f}  worst {self.worst:6.1f} ms; {self.bytes:,} bytes"
        refused = f"; {self.refused} REFUSED: {self.why}" if self.refused else ""
        return f"{times}; of a processor {sum(self.processor_ms.values()):.1f} ms: {took}{refused}"


def questions(field: Field, draw: random.Random) -> dict[str, list[str]]:
    """What pages ask, by page; of many alike some are drawn."""
    nodes = [node.hex() for node in draw.choices(field.nodes, k=100)]
    accounts = [address_text(account) for account in draw.choices(field.accounts, k=100)]
    places = [read_cell(f"{draw.uniform(-50, 65)},{draw.uniform(-170, 170)}") for _ in range(100)]
    epoch = field.epoch
    return {
        "overview, sector: totals": ["/v1/market"],
        "all: the network": ["/v1/network"],
        "all: the page itself": ["/"],
        "overview, epochs: latest epochs": ["/v1/epochs?limit=20"],
        "overview, networks: kinds of infrastructure": ["/v1/networks"],
        "overview: what happened lately": ["/v1/happenings"],
        "epoch": [f"/v1/epochs/{epoch}"],
        "epoch: statement": [f"/v1/epochs/{epoch}/files/statement"],
        "epoch: votes": [f"/v1/epochs/{epoch}/votes"],
        "epoch: an account's proof": [f"/v1/epochs/{epoch}/proofs/{account}" for account in accounts],
        "account: where it is paid": [f"/v1/payouts/{account}" for account in accounts],
        "nodes: 200 of them": [f"/v1/nodes?limit=200&after={node}" for node in nodes],
        "node": [f"/v1/nodes/{node}" for node in nodes],
        "map: whole, resolution 1": ["/v1/map?resolution=1"],
        "map: whole, resolution 2": ["/v1/map?resolution=2"],
        **{
            f"map: near, resolution {coarse + 3}": [f"/v1/map?around={parent(place, coarse)}" for place in places]
            for coarse in range(3)
        },
        "checks": ["/v1/checks"],
        "roll calls": ["/v1/roll-calls"],
    }


async def ask(data: Path, strangers: Sequence[httpx2.AsyncClient], paths: Sequence[str], seconds: int) -> Asked:
    """Ask in turn, at `RATE`."""
    took: list[float] = []
    sizes: list[int] = []
    wrong: list[str] = []
    before = processor_s(data)
    began = time.monotonic()

    async def one(number: int) -> None:
        due = began + number / RATE
        await asyncio.sleep(due - time.monotonic())
        try:
            answer = await strangers[number % STRANGERS].get(paths[number % len(paths)])
            if answer.status_code != httpx2.codes.OK:
                wrong.append(answer.text)
            sizes.append(len(answer.content))
        except httpx2.HTTPError as error:
            wrong.append(repr(error))
        took.append(1000 * (time.monotonic() - due))

    async with asyncio.TaskGroup() as group:
        for number in range(RATE * seconds):
            group.create_task(one(number))
    used = difference(processor_s(data), before)
    took.sort()
    return Asked(
        p50=statistics.median(took),
        p95=took[int(0.95 * len(took))],
        worst=took[-1],
        bytes=max(sizes, default=0),
        processor_ms={name: 1000 * spent / len(took) for name, spent in used.items()},
        refused=len(wrong),
        why=wrong[-1][:200] if wrong else "",
    )


def strangers_of(url: str) -> list[httpx2.AsyncClient]:
    """Clients that connect from an address each."""
    transports = [httpx2.AsyncHTTPTransport(local_address=f"127.0.{number}.1") for number in range(1, STRANGERS + 1)]
    return [httpx2.AsyncClient(base_url=url, transport=transport, timeout=ANSWER_S) for transport in transports]
