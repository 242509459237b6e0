"""What verticals added up before it became a record, added up again from the records that it was made of."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import dropwhile
from pathlib import Path
from typing import Final

from fallow.bootstrap.plugins import load_verticals
from fallow.domain.epochs.paid_use import KINDS, Comparison, PaidUse
from fallow.domain.epochs.reading import Filed, filed_records, records_of_kind
from fallow.domain.epochs.statement import NONE, Statement
from fallow.domain.epochs.sums import Recounts, check_sums, has_sums, taken
from fallow.sdk.epochs import is_whole, read_epoch, read_file

BACK_MS: Final = 9 * 86_400_000
"""What is older is in no sum of now: orders of storage are handed in within a week and an hour."""


def recount(folder: Path, number: int, network_key: bytes) -> Recounts:
    """Add up again all sums of an epoch that was found to be what its records give.

    Of the epochs before it, one after the other, those are read whose records lie in the folder.

    Raises:
        InvalidInput: `epoch.recount`: a sum is another one than its records make.
    """
    _, said, manifest = read_epoch(folder, number, network_key)
    if not has_sums(manifest):
        return Recounts(0, 0)
    epochs = [said, *_before(folder, said, network_key)]
    since_ms = 0 if epochs[-1].previous == NONE else epochs[-1].from_ms
    recounts = [
        one for each in load_verticals().values() if (one := each.recount(said.net, network_key, since_ms)) is not None
    ]
    for before in reversed(epochs[1:]):
        for filed in _records(folder, before.epoch, network_key):
            for _ in taken(recounts, filed):
                pass  # sums of earlier epochs are theirs
    return check_sums(
        number, (each for filed in _records(folder, number, network_key) for each in taken(recounts, filed))
    )


def paid_use(folder: Path, number: int, network_key: bytes) -> PaidUse:
    """Hold what accounts were paid for against what is told of their nodes, over this epoch and those before it.

    These lie in the folder, and begin with the first one that tells of use: what was paid for in that one does not
    count, since it may have been used before.
    """
    _, said, _ = read_epoch(folder, number, network_key)
    read = [read_epoch(folder, one.epoch, network_key) for one in (said, *_before(folder, said, network_key))]
    epochs = list(dropwhile(lambda one: not has_sums(one[2]), reversed(read)))
    if not epochs:
        return PaidUse(0, [])
    comparison = Comparison(network_key, epochs[0][1].until_ms, said.until_ms)
    for _, each, manifest in epochs:
        for kind in KINDS:
            for filed in records_of_kind(manifest, partial(read_file, folder, each.epoch), kind):
                comparison.take(filed)
    return comparison.found()


def _before(folder: Path, said: Statement, network_key: bytes) -> Iterator[Statement]:
    """The epochs before one, the latest first, as far back as their records are there and may matter."""
    oldest_ms = said.from_ms - BACK_MS
    while (
        said.previous != NONE
        and said.from_ms > oldest_ms
        and is_whole(folder, said.epoch - 1, network_key, records=True)
    ):
        _, said, _ = read_epoch(folder, said.epoch - 1, network_key)
        yield said


def _records(folder: Path, number: int, network_key: bytes) -> Iterator[Filed]:
    _, _, manifest = read_epoch(folder, number, network_key)
    return filed_records(manifest, lambda name: read_file(folder, number, name))
