"""Where the seeds of checks, the draws made from them, and roll calls are kept. The market owns these tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from fallow.domain.canaries import Known
from fallow.domain.draws import Draw
from fallow.domain.reruns import Rerun
from fallow.domain.rollcall import Call
from fallow.ports.database import Transaction


class SeedRow(NamedTuple):
    """An epoch of draws: its signed commitment, and when it was open (milliseconds since 1970).

    One that was only committed to has no `opened_at`; a seed may be shown once there is a `closed_at`.
    """

    number: int
    commitment: bytes
    opened_at: int | None
    closed_at: int | None


class PartRow(NamedTuple):
    """What a validator (20 bytes) adds to the seed of epoch `number`: its signed pledge, and its part once shown."""

    number: int
    validator: bytes
    pledge: bytes
    part: bytes | None


class Alone(NamedTuple):
    """How fast a node was alone at a time: see `fallow.domain.rollcall.Said.rate`."""

    rate: int
    at: int


class CheckStore(Protocol):
    """Commitments, draws, what canaries are made of, and roll calls."""

    async def seeds(self, tx: Transaction, limit: int) -> list[SeedRow]:
        """Epochs of draws, the latest first."""
        ...

    async def seed(self, tx: Transaction, number: int) -> SeedRow | None:
        """One epoch of draws."""
        ...

    async def put_seed(self, tx: Transaction, row: SeedRow) -> None:
        """Write a row over its older version. A commitment, once written, stays as it is."""
        ...

    async def lock_seed(self, tx: Transaction, number: int) -> SeedRow | None:
        """One epoch of draws, which nobody else opens until this transaction ends."""
        ...

    async def parts(self, tx: Transaction, number: int) -> list[PartRow]:
        """What validators add to a seed, by validator."""
        ...

    async def put_part(self, tx: Transaction, row: PartRow) -> None:
        """Write a pledge, or the part that belongs to it. Either, once written, stays as it is."""
        ...

    async def add(self, tx: Transaction, draws: Sequence[Draw]) -> None:
        """Keep draws; one that is there already stays as it is."""
        ...

    async def known(self, tx: Transaction) -> list[Known]:
        """Items whose results are known, the oldest first."""
        ...

    async def put_known(self, tx: Transaction, known: Mapping[tuple[str, int], Known | None]) -> None:
        """Write items, by job and index, over their older versions; None takes one away."""
        ...

    async def add_reruns(self, tx: Transaction, reruns: Sequence[Rerun]) -> None:
        """Keep what re-runs have shown; one that is there already stays as it is."""
        ...

    async def reruns(self, tx: Transaction, limit: int) -> list[Rerun]:
        """What re-runs have shown, the latest first."""
        ...

    async def draws(self, tx: Transaction, number: int, after: tuple[bytes, str], limit: int) -> list[Draw]:
        """An epoch's draws by lease and purpose, those above `after`."""
        ...

    async def add_call(self, tx: Transaction, call: Call, keep_from: int) -> None:
        """Keep a roll call, and forget those before a time (milliseconds since 1970) that convicted nobody."""
        ...

    async def calls(self, tx: Transaction, limit: int, *, found: bool) -> list[Call]:
        """Roll calls, the latest first; with `found` only those that convicted somebody."""
        ...

    async def alone(self, tx: Transaction) -> dict[bytes, Alone]:
        """How fast each node was alone when it was last measured."""
        ...

    async def put_alone(self, tx: Transaction, node: bytes, alone: Alone) -> None:
        """Write how fast a node was alone over what was there."""
        ...
