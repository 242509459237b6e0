"""Where the seeds of checks and the draws made from them are kept. The market owns these tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from fallow.domain.canaries import Known
from fallow.domain.draws import Draw
from fallow.domain.reruns import Rerun
from fallow.ports.database import Transaction


class SeedRow(NamedTuple):
    """An epoch of draws: its signed commitment, and when it was open (milliseconds since 1970).

    One that was only committed to has no `opened_at`; a seed may be shown once there is a `closed_at`.
    """

    number: int
    commitment: bytes
    opened_at: int | None
    closed_at: int | None


class CheckStore(Protocol):
    """Commitments and draws."""

    async def seeds(self, tx: Transaction, limit: int) -> list[SeedRow]:
        """Epochs of draws, the latest first."""
        ...

    async def seed(self, tx: Transaction, number: int) -> SeedRow | None:
        """One epoch of draws."""
        ...

    async def put_seed(self, tx: Transaction, row: SeedRow) -> None:
        """Write a row over its older version. A commitment, once written, stays as it is."""
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
