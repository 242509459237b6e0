"""Closed epochs under other rules, one after the other: what these would have given for the same records. Pure.

The first one begins where it really began, each later one where the one before would have ended under those rules: so
what they hold, vest or mint less of shows in later epochs, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from fallow.domain.epochs.core import Epoch
from fallow.domain.epochs.folding import Folded, fold
from fallow.domain.epochs.lines import INCENTIVE, USAGE, Line
from fallow.domain.epochs.metering import Metering
from fallow.domain.epochs.reading import Filed
from fallow.domain.epochs.rules import Rules, rules_of
from fallow.domain.epochs.state import State, read_state, write_state
from fallow.domain.epochs.statement import Statement
from fallow.domain.views.what_if import GroupView, SumsView


class ClosedEpoch(NamedTuple):
    """An epoch as it was closed: what was signed of it, its lines, and its records in the order of ingest."""

    statement: Statement
    lines: Iterable[Line]
    records: Iterable[Filed]


class Sums(NamedTuple):
    """What some lines earned, and what of that and of earlier pay their epochs made owed.

    Usage in micro-US-dollars, incentive in the token's smallest unit.
    """

    usage: int = 0
    usage_owed: int = 0
    incentive: int = 0
    incentive_owed: int = 0

    def plus(self, other: Sums) -> Sums:
        """Both together."""
        return Sums(*(one + more for one, more in zip(self, other, strict=True)))

    def view(self) -> SumsView:
        """As it is shown."""
        return SumsView(
            usage_microusd=self.usage,
            usage_owed_microusd=self.usage_owed,
            incentive=str(self.incentive),
            incentive_owed=str(self.incentive_owed),
        )


Groups = Mapping[str, Sums]
"""Sums by a group's name."""


def refolded(
    opening: State,
    closed: Iterable[ClosedEpoch],
    change: Callable[[Rules], Rules],
    network_key: bytes,
    verticals: Mapping[str, Metering],
) -> Iterator[tuple[ClosedEpoch, Folded]]:
    """Fold epochs that follow one another under what `change` makes of the rules that each was closed under.

    Raises:
        InvalidInput: `epoch.policy`: a policy of theirs is not here; and what `change` raises.
    """
    state = opening
    for one in closed:
        said = one.statement
        rules, used = rules_of(said.policies, verticals)
        epoch = Epoch(said.net, said.epoch, said.until_ms, network_key)
        folded = fold(state, epoch, one.records, change(rules), used)
        yield one, folded
        state = read_state(write_state(folded.state))


def summed(lines: Iterable[Line], group_of: Callable[[Line], str]) -> dict[str, Sums]:
    """Add lines up by group."""
    found: dict[str, Sums] = {}
    for line in lines:
        later = dict.fromkeys((USAGE, INCENTIVE), 0)
        for kept in line.kept:
            of = int.from_bytes
            later[kept.part] += of(kept.held) + of(kept.vesting) - of(kept.released) - of(kept.vested)
        usage, incentive = int.from_bytes(line.usage), int.from_bytes(line.incentive)
        sums = Sums(usage, usage - later[USAGE], incentive, incentive - later[INCENTIVE])
        if sums != Sums():
            group = group_of(line)
            found[group] = found.get(group, Sums()).plus(sums)
    return found


def together(one: Groups, other: Groups) -> dict[str, Sums]:
    """Both, group by group."""
    return {name: one.get(name, Sums()).plus(other.get(name, Sums())) for name in one.keys() | other.keys()}


def compared(was: Groups, then: Groups) -> list[GroupView]:
    """Groups that earn something in one of both, those with the largest difference first."""
    both = {name: (was.get(name, Sums()), then.get(name, Sums())) for name in was.keys() | then.keys()}

    def order(name: str) -> tuple[int, int, str]:
        usage, usage_owed, incentive, incentive_owed = (abs(a - b) for a, b in zip(*both[name], strict=True))
        return -incentive - incentive_owed, -usage - usage_owed, name

    return [
        GroupView(name=name, was=both[name][0].view(), then=both[name][1].view()) for name in sorted(both, key=order)
    ]
