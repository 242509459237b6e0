"""Stages verify and meter of the fold: decide on each record, and count what the accepted ones say. Pure.

Records are read once, in the order of ingest, so that memory grows with nodes and not with records.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from fallow.domain.epochs.core import Core, Epoch
from fallow.domain.epochs.lines import OTHER, PARTS, REASONS_MAX, LineKey, Tally
from fallow.domain.epochs.metering import Found, Known, Metering, Use
from fallow.domain.epochs.plugins import Contained
from fallow.domain.epochs.reading import Filed
from fallow.domain.epochs.state import Row, State
from fallow.domain.records import COUNT_MAX
from fallow.domain.verification import Verdict

CORE = ""
"""The vertical of lines that count records of the core: bindings, and what checks have shown."""

FULL = Found(Verdict.REJECTED, "line.full")
"""Of what would take a line's money beyond what a file holds."""


class Read(NamedTuple):
    """What the records have shown. By vertical: what it carries on, and what it raised first that it must not.

    `stuck` says that one could not begin or end its epoch.
    """

    tallies: dict[LineKey, Tally]
    core: Core
    carried: dict[str, Sequence[Row]]
    errors: dict[str, str]
    stuck: bool = False


def read_records(opening: State, epoch: Epoch, records: Iterable[Filed], verticals: Mapping[str, Metering]) -> Read:
    """Judge an epoch's records."""
    tallies: dict[LineKey, Tally] = defaultdict(Tally)
    core = Core(opening, epoch)
    known = Known(epoch.number, epoch.network, core.owners)
    contained = {name: Contained(one, opening.carried.get(name, ()), known) for name, one in verticals.items()}
    of_core, readers = core.kinds, readers_of(verticals)
    for filed in records:
        kind = filed.record.kind
        if kind in of_core:
            found = core.verify(filed)
            _note(tallies[CORE, filed.node, core.owners.get(filed.node, b"")], found)
        for name in readers.get(kind, ()):
            found, use = contained[name].judge(filed)
            node = filed.node if use is None else use.node
            account = (use and use.account) or core.owners.get(node, b"")
            tally = tallies[name, node, account]
            if use is not None and use.moved and not tally.holds(use.moved):
                found, use = FULL, None
            _note(tally, found)
            if use is not None:
                _count(tally, use)
    return Read(
        dict(tallies),
        core,
        {name: one.carried() for name, one in contained.items()},
        {name: one.error for name, one in contained.items() if one.error},
        any(one.stuck for one in contained.values()),
    )


def readers_of(verticals: Mapping[str, Metering]) -> dict[str, list[str]]:
    """Which verticals read a kind of records."""
    kinds = frozenset(kind for one in verticals.values() for kind in one.kinds)
    return {kind: [name for name, one in verticals.items() if kind in one.kinds] for kind in kinds}


def _note(tally: Tally, found: Found) -> None:
    """Count a verdict; a vertical that has a code for every record has its line end all the same."""
    key = (found.verdict.value, found.code)
    known = key in tally.verdicts or len(tally.verdicts) < REASONS_MAX
    tally.verdicts[key if known else (found.verdict.value, OTHER)] += 1


def _count(tally: Tally, use: Use) -> None:
    tally.units = min(tally.units + use.units, COUNT_MAX)  # what a line holds has to fit into the encoding
    tally.weight += use.units * use.weigh
    for moved in use.moved:
        for name in PARTS:
            if value := getattr(moved, name):
                tally.money[moved.credit, use.bought, name] += value
        if use.attested and use.bought:
            tally.attested[moved.credit] += moved.fee
    if use.ended is not None:
        tally.end(*use.ended)
