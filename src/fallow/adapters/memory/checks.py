"""Commitments and draws in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from fallow.adapters.memory.database import memory_transaction
from fallow.domain.canaries import Known
from fallow.domain.draws import Draw
from fallow.domain.reruns import Rerun
from fallow.domain.rollcall import Call
from fallow.ports.checks import Alone, PartRow, SeedRow
from fallow.ports.database import Transaction


class MemoryCheckStore:
    """See `fallow.ports.checks.CheckStore`."""

    def __init__(self) -> None:
        self._seeds: dict[int, SeedRow] = {}
        self._parts: dict[tuple[int, bytes], PartRow] = {}
        self._draws: dict[tuple[int, bytes, str], Draw] = {}
        self._known: dict[tuple[str, int], bytes] = {}
        self._reruns: dict[bytes, Rerun] = {}
        self._calls: dict[bytes, Call] = {}
        self._alone: dict[bytes, Alone] = {}

    async def seeds(self, tx: Transaction, limit: int) -> list[SeedRow]:
        """Epochs of draws, the latest first."""
        memory_transaction(tx)
        return [row for _, row in sorted(self._seeds.items(), reverse=True)[:limit]]

    async def seed(self, tx: Transaction, number: int) -> SeedRow | None:
        """One epoch of draws."""
        memory_transaction(tx)
        return self._seeds.get(number)

    async def put_seed(self, tx: Transaction, row: SeedRow) -> None:
        """Write a row over its older version, all but the commitment."""
        mine, known = memory_transaction(tx), self._seeds.get(row.number, row)
        mine.put(self._seeds, row.number, row._replace(commitment=known.commitment))

    async def lock_seed(self, tx: Transaction, number: int) -> SeedRow | None:
        """One epoch of draws; transactions here are one after the other."""
        return await self.seed(tx, number)

    async def parts(self, tx: Transaction, number: int) -> list[PartRow]:
        """What validators add to a seed."""
        memory_transaction(tx)
        return [row for key, row in sorted(self._parts.items()) if key[0] == number]

    async def put_part(self, tx: Transaction, row: PartRow) -> None:
        """Write a pledge, or its part where none is."""
        mine, key = memory_transaction(tx), (row.number, row.validator)
        known = self._parts.get(key, row)
        mine.put(self._parts, key, known._replace(part=row.part if known.part is None else known.part))

    async def add(self, tx: Transaction, draws: Sequence[Draw]) -> None:
        """Keep draws."""
        mine = memory_transaction(tx)
        for draw in draws:
            if draw.number not in self._seeds:
                raise LookupError(f"there is no seed {draw.number}")
            key = (draw.number, draw.lease, draw.purpose.value)
            if key not in self._draws:
                mine.put(self._draws, key, draw)

    async def known(self, tx: Transaction) -> list[Known]:
        """Items whose results are known, the oldest first."""
        memory_transaction(tx)
        found = [msgspec.json.decode(doc, type=Known) for doc in self._known.values()]
        return sorted(found, key=_age)

    async def put_known(self, tx: Transaction, known: Mapping[tuple[str, int], Known | None]) -> None:
        """Write items over their older versions, or take them away."""
        mine = memory_transaction(tx)
        for key, entry in known.items():
            if entry is not None:
                mine.put(self._known, key, msgspec.json.encode(entry))
            elif key in self._known:
                mine.drop(self._known, key)

    async def add_reruns(self, tx: Transaction, reruns: Sequence[Rerun]) -> None:
        """Keep what re-runs have shown."""
        mine = memory_transaction(tx)
        for found in reruns:
            if found.lease not in self._reruns:
                mine.put(self._reruns, found.lease, found)

    async def reruns(self, tx: Transaction, limit: int) -> list[Rerun]:
        """What re-runs have shown, the latest first."""
        memory_transaction(tx)
        return sorted(self._reruns.values(), key=lambda found: (found.at, found.lease), reverse=True)[:limit]

    async def draws(self, tx: Transaction, number: int, after: tuple[bytes, str], limit: int) -> list[Draw]:
        """An epoch's draws, those above `after`."""
        memory_transaction(tx)
        found = sorted((key[1:], draw) for key, draw in self._draws.items() if key[0] == number and key[1:] > after)
        return [draw for _, draw in found[:limit]]

    async def add_call(self, tx: Transaction, call: Call, keep_from: int) -> None:
        """Keep a roll call, and forget old ones that convicted nobody."""
        mine = memory_transaction(tx)
        if call.id not in self._calls:
            mine.put(self._calls, call.id, call)
        for old in [old for old in self._calls.values() if old.at < keep_from and not old.found]:
            mine.drop(self._calls, old.id)

    async def calls(self, tx: Transaction, limit: int, *, found: bool) -> list[Call]:
        """Roll calls, the latest first."""
        memory_transaction(tx)
        there = [call for call in self._calls.values() if call.found or not found]
        return sorted(there, key=lambda call: (-call.at, call.id))[:limit]

    async def alone(self, tx: Transaction) -> dict[bytes, Alone]:
        """How fast each node was alone."""
        memory_transaction(tx)
        return dict(self._alone)

    async def put_alone(self, tx: Transaction, node: bytes, alone: Alone) -> None:
        """Write how fast a node was alone."""
        memory_transaction(tx).put(self._alone, node, alone)


def _age(known: Known) -> tuple[int, str, int]:
    return known.at, *known.key
