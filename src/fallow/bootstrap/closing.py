"""Large epochs are concluded by processes of their own, so that the role that closes them answers meanwhile."""

from __future__ import annotations

import os
from typing import Final

from fallow.adapters.processes import in_process, spread_over
from fallow.domain.epochs.parts import travels
from fallow.services.epochs.concluding import Concluded, Work, conclude

RECORDS_MIN: Final = 200_000
"""Processes take about a second to begin, in which one judges some hundred thousand records."""


def conclude_apart(work: Work) -> Concluded:
    """Conclude an epoch, in other processes if it is large and its verticals can be given to them.

    Blocks; raises as `conclude`, and `process.died`.
    """
    apart = work.records >= RECORDS_MIN and all(map(travels, work.meterings.values()))
    return in_process(conclude_spread, work) if apart else conclude(work)


def conclude_spread(work: Work) -> Concluded:
    """Conclude an epoch on all processors."""
    with spread_over(os.cpu_count() or 1) as spread:
        return conclude(work, spread)
