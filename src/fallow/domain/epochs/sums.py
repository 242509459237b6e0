"""What became of sums that were added up again. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from fallow.domain.epochs.manifest import RECORDS, Manifest
from fallow.domain.epochs.metering import Recount, Recounted
from fallow.domain.epochs.reading import Filed
from fallow.domain.errors import FallowError, InvalidInput
from fallow.domain.network_facts import LendingUsed

NAMED_MAX: Final = 10


class Recounts(NamedTuple):
    """How many sums are what their records make, and how many differ where earlier epochs would have to be read."""

    right: int
    unsure: int


def has_sums(manifest: Manifest) -> bool:
    """Whether there is anything to be added up again in an epoch."""
    return any(file.name == RECORDS + LendingUsed.kind for file in manifest.record_files)


def taken(recounts: Iterable[Recount], filed: Filed) -> Iterator[Recounted]:
    """Have a record taken by each; what is malformed, the epoch's policies have refused, too."""
    for one in recounts:
        try:
            found = one.take(filed)
        except FallowError:
            continue
        if found is not None:
            yield found


def check_sums(epoch: int, found: Iterable[Recounted]) -> Recounts:
    """Count what was found of an epoch's sums.

    Raises:
        InvalidInput: `epoch.recount`: one is surely another than its records make.
    """
    all_ = list(found)
    wrong = [each for each in all_ if each.differs and each.sure]
    if wrong:
        told = "; ".join(f"{each.what}: {each.differs}" for each in wrong[:NAMED_MAX])
        raise InvalidInput(
            "epoch.recount",
            f"{len(wrong)} sums of epoch {epoch} are not what their records make: {told}.",
            "Ask the operator; the files that show it are kept.",
        )
    right = sum(not each.differs for each in all_)
    return Recounts(right, len(all_) - right)
