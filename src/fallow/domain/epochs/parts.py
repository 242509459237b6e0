"""Judging an epoch's records on several processors: verticals that look at each node alone, by nodes. Pure.

What comes out is what `read_records` gives of all records, to the last byte of every file that follows from it: the
records of a node, and the bindings that say whose it is, are all in one part, in their order. All that looks at more
than one node, the core's records among it, is judged in one go by the process that asks.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from fallow.domain.epochs.core import BINDINGS, Core, Epoch
from fallow.domain.epochs.judgements import CORE, Read, read_records
from fallow.domain.epochs.lines import LineKey, Tally
from fallow.domain.epochs.manifest import Manifest
from fallow.domain.epochs.metering import Metering
from fallow.domain.epochs.reading import Read as ReadFile
from fallow.domain.epochs.reading import Share, filed_records
from fallow.domain.epochs.state import Row, State, read_state
from fallow.domain.rewards.tree import Mapper


class FiledEpoch(NamedTuple):
    """An epoch's files. `read` has to be one that another process can be given."""

    epoch: Epoch
    manifest: Manifest
    read: ReadFile


class Job(NamedTuple):
    """One part's work. `opening` is the file `state` of the epoch before."""

    opening: bytes
    filed: FiledEpoch
    share: Share
    verticals: Mapping[str, Metering]


class Part(NamedTuple):
    """What one part has found."""

    tallies: dict[LineKey, Tally]
    carried: dict[str, Sequence[Row]]
    errors: dict[str, str]
    stuck: bool


class Spread(NamedTuple):
    """How many parts there are, and what does a job for each, at once or one after the other; as does `hashing`."""

    parts: int
    run: Callable[[Callable[[Job], Part], Iterable[Job]], Iterable[Part]]
    hashing: Mapper = map


ALONE: Final = Spread(1, map)


def read_spread(opening: bytes, filed: FiledEpoch, verticals: Mapping[str, Metering], spread: Spread) -> Read:
    """Judge an epoch's records.

    Raises:
        InvalidInput: `archive.damaged`, `epoch.state`.
    """
    apart = {name: one for name, one in verticals.items() if spread.parts > 1 and one.by_node and travels(one)}
    together = {name: one for name, one in verticals.items() if name not in apart}
    shares = [Share(BINDINGS | _kinds(apart), part, spread.parts) for part in range(spread.parts)] if apart else []
    parts = spread.run(judge_part, [Job(opening, filed, share, apart) for share in shares])
    state = read_state(opening)
    kinds = Core(state, filed.epoch).kinds | _kinds(together)
    read = read_records(state, filed.epoch, filed_records(filed.manifest, filed.read, Share(kinds)), together)
    found = list(parts)
    if any(part.stuck for part in found):  # what becomes of such a vertical is said of all its nodes at once
        return read_spread(opening, filed, verticals, ALONE)
    return _joined(read, found)


def judge_part(job: Job) -> Part:
    """Judge the records of one part's nodes."""
    records = filed_records(job.filed.manifest, job.filed.read, job.share)
    read = read_records(_narrowed(read_state(job.opening), job.share), job.filed.epoch, records, job.verticals)
    tallies = {key: tally for key, tally in read.tallies.items() if key[0] != CORE}
    return Part(tallies, read.carried, read.errors, read.stuck)


def _narrowed(state: State, share: Share) -> State:
    """What was carried on of a part's nodes."""
    return state._replace(
        owners={node: owner for node, owner in state.owners.items() if share.has(node)},
        standings={},
        owed={},
        carried={name: [row for row in rows if _is_of(row, share)] for name, rows in state.carried.items()},
    )


def _is_of(row: Row, share: Share) -> bool:
    return isinstance(row[0], bytes) and share.has(row[0])


def _joined(read: Read, parts: Iterable[Part]) -> Read:
    carried: dict[str, list[Row]] = {}
    tallies, errors = dict(read.tallies), dict(read.errors)
    for part in parts:
        tallies |= part.tallies
        errors = part.errors | errors
        for name, rows in part.carried.items():
            carried.setdefault(name, []).extend(rows)
    return read._replace(tallies=tallies, carried={**read.carried, **carried}, errors=errors)


def _kinds(verticals: Mapping[str, Metering]) -> frozenset[str]:
    return frozenset(kind for one in verticals.values() for kind in one.kinds)


def travels(metering: Metering) -> bool:
    """Whether another process can be given it."""
    try:
        pickle.dumps(metering)
    except Exception:  # noqa: BLE001 - whatever a plugin's object raises, it stays here
        return False
    return True
