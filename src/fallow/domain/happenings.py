"""What happens on a network, told to everybody while it happens: facts that its public pages and its archive tell, too.

Nothing in it names a buyer, a job, a lease or a place, and no word in it is a node's own.
"""

from __future__ import annotations

from typing import Final, Literal

from fallow.domain.views.base import View

SHOWN_AT_ONCE_MAX: Final = 16
"""Of what happened in one go; the rest is counted."""

Kind = Literal[
    "node.joined", "lease.began", "lease.ended", "check.passed", "check.failed", "check.missed", "epoch.closed"
]


class Happening(View, frozen=True, kw_only=True):
    """One of it, `at` a moment (milliseconds since 1970): of a `node`, of a `vertical`, or the `epoch` that was closed.

    `ok` says of a lease that ended whether it led to a result.
    """

    at: int
    kind: Kind
    node: str = ""
    vertical: str = ""
    epoch: int | None = None
    ok: bool = True


class Happenings(View, frozen=True, kw_only=True):
    """What happened lately, the oldest first; `more` happened besides, and is not told one by one."""

    shown: list[Happening] = []
    more: int = 0


class Gathering:
    """Collects what happens, as far as one message tells it."""

    def __init__(self) -> None:
        self._shown: list[Happening] = []
        self._more = 0

    def add(self, one: Happening) -> None:
        """Keep it, or count it."""
        if len(self._shown) < SHOWN_AT_ONCE_MAX:
            self._shown.append(one)
        else:
            self._more += 1

    def add_all(self, others: Happenings) -> None:
        """Keep, or count, what was gathered elsewhere."""
        for one in others.shown:
            self.add(one)
        self._more += others.more

    def take(self) -> Happenings | None:
        """Return what came together, and begin anew; None: nothing did."""
        if not self._shown:
            return None
        taken = Happenings(shown=self._shown, more=self._more)
        self._shown, self._more = [], 0
        return taken
