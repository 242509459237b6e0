"""Which results are to be run again, and what re-runs have shown of each program."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from fallow.domain.jobs import Job
from fallow.domain.reruns import KEPT_MAX, Program, Rerun, in_vain, suspects, watched
from fallow.domain.verification import Vote

DUE_MAX = 1_000
PROGRAMS_MAX = 1_000
"""Programs that are remembered; the one that was run again longest ago is forgotten first."""
TURNS_A_ROUND = 16

NOBODY: frozenset[bytes] = frozenset()


class Due(NamedTuple):
    """A result that a draw has hit."""

    job: Job
    item: int
    first: Vote


class Reruns:
    """What is due is in memory only, like canaries; what was found is stored, the oldest first in `found`."""

    def __init__(self, found: Iterable[Rerun] = ()) -> None:
        self.due: deque[Due] = deque()
        self._found: OrderedDict[Program, deque[Rerun]] = OrderedDict()
        self._suspects: dict[Program, frozenset[bytes]] = {}
        for one in found:
            self.learn(one)

    def owe(self, due: Due) -> None:
        """A draw has hit: the item is run again when its round comes."""
        if len(self.due) < DUE_MAX:
            self.due.append(due)

    def take(self) -> list[Due]:
        """Those whose turn it is."""
        taken = list(islice(self.due, TURNS_A_ROUND))
        for _ in taken:
            self.due.popleft()
        return taken

    def learn(self, one: Rerun) -> frozenset[bytes]:
        """Take in what a re-run has shown; returns the suspects among its two nodes."""
        kept = self._found.setdefault(one.key, deque(maxlen=KEPT_MAX))
        kept.append(one)
        self._found.move_to_end(one.key)
        self._suspects[one.key] = suspects(kept)
        if len(self._found) > PROGRAMS_MAX:
            gone, _ = self._found.popitem(last=False)
            del self._suspects[gone]
        return self._suspects[one.key] & set(one.nodes)

    def in_vain(self, program: Program) -> bool:
        """Whether a program never repeats itself."""
        return in_vain(self._found.get(program, ()))

    def watched(self, program: Program, node: bytes) -> bool:
        """Whether all of a node's results of a program are run again for now."""
        return watched(node, self._found.get(program, ()))

    def suspects(self, program: Program) -> frozenset[bytes]:
        """Nodes before which all others come for a program."""
        return self._suspects.get(program, NOBODY)
