"""What follows from an epoch's records: judged, added up, and put into the archive. All of it can be another process's.

It blocks, and for a large epoch it takes minutes of a processor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

from fallow.domain.epochs.closing import TREE, close_filed
from fallow.domain.epochs.core import Epoch
from fallow.domain.epochs.manifest import Manifest, path_of
from fallow.domain.epochs.metering import Metering
from fallow.domain.epochs.parts import ALONE, FiledEpoch, Spread
from fallow.domain.epochs.rules import Rules
from fallow.ports.archive import Archive


class Work(NamedTuple):
    """An epoch whose records are in the archive. `opening` is the file `state` of the one before."""

    archive: Archive
    opening: bytes
    epoch: Epoch
    manifest: Manifest
    rules: Rules
    meterings: Mapping[str, Metering]

    @property
    def records(self) -> int:
        """How many there are."""
        return sum(file.count for file in self.manifest.record_files)


class Concluded(NamedTuple):
    """The fields of the statement that follow, and what verticals did that they must not."""

    fields: dict[str, Any]
    errors: Mapping[str, str]


def conclude(work: Work, spread: Spread = ALONE) -> Concluded:
    """Judge the records, and put what follows into the archive.

    Raises:
        InvalidInput: `archive.damaged`, `epoch.state`.
        Unavailable: `archive.unavailable`.
    """
    number = work.epoch.number
    filed = FiledEpoch(work.epoch, work.manifest, partial(_read, work.archive, number))
    closing = close_filed(work.opening, filed, work.rules, work.meterings, spread)
    for name, data in (*closing.files.items(), (TREE, closing.tree)):
        work.archive.put(path_of(number, name), data)
    return Concluded(closing.fields, dict(closing.folded.errors))


def _read(archive: Archive, epoch: int, name: str) -> Iterable[bytes]:
    """Read a file of an epoch; other processes are given it."""
    return archive.read(path_of(epoch, name))
