"""Adds up again what a network has told in sums: of some of its nodes, drawn by this validator alone. Methods block.

An operator who tells more or less than nodes' own records make does not know whom a validator looks at, and each looks
at others. What hangs on records of earlier epochs, which are not kept, convicts nobody: see `Recounted.sure`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from fallow.domain.epochs.judging import Before
from fallow.domain.epochs.manifest import Manifest
from fallow.domain.epochs.metering import Recount
from fallow.domain.epochs.reading import Place, Read, Share, filed_records
from fallow.domain.epochs.statement import Statement
from fallow.domain.epochs.sums import check_sums, has_sums, taken
from fallow.domain.network_facts import LendingUsed

RECORDS_MAX: Final = 5000
"""Of nodes are added up, about: of storage a hundred thousand orders, which take ten seconds."""
CLOCKS_MS: Final = 600_000
"""Machines of one network differ by less: what was begun in this epoch was counted in none before it."""

NewRecounts = Callable[[str, int, Mapping[bytes, Place]], Sequence[Recount]]
"""Makes what adds up again, of a network's id, since a time, each node's records from a place on."""


class Sums:
    """What is added up again for one network. `draw` gives a number below another one, which nobody foresees."""

    def __init__(self, network_key: bytes, new_recounts: NewRecounts, draw: Callable[[int], int]) -> None:
        self._key = network_key
        self._new_recounts = new_recounts
        self._draw = draw

    def check(self, statement: Statement, manifest: Manifest, read: Read, before: Before | None) -> None:
        """Look at some nodes of an epoch whose files are what they should be; `before` is the one before it.

        Raises:
            InvalidInput: `epoch.recount`: a sum is surely another one than its records make.
        """
        if not has_sums(manifest):
            return
        since_ms = statement.from_ms + CLOCKS_MS if before else 0
        for recount in self._new_recounts(statement.net, since_ms, before.places if before else {}):
            self._check(recount, statement.epoch, manifest, read)

    def _check(self, recount: Recount, epoch: int, manifest: Manifest, read: Read) -> None:
        """By node, in the order of its own records: all that are added up come first, then the sums of them."""
        records = sum(file.count for file in Share(recount.kinds).files(manifest))
        parts = max(1, -(-records // RECORDS_MAX))
        share = Share(recount.kinds, self._draw(parts), parts)
        for filed in filed_records(manifest, read, share):
            for _ in taken([recount], filed):
                pass  # no sum is of these kinds
        sums = (
            filed
            for filed in filed_records(manifest, read, Share(frozenset({LendingUsed.kind})))
            if filed.node == self._key and share.has(filed.record.read(LendingUsed).node)
        )
        check_sums(epoch, (found for filed in sums for found in taken([recount], filed)))
