"""What can happen to a lease (events), and what follows from it (effects): see `fallow.domain.leases`."""

from __future__ import annotations

from typing import NamedTuple

from fallow.domain.verification import Verdict


class Accepted(NamedTuple):
    """The node's signed accept came in."""

    at: int


class Declined(NamedTuple):
    """The node will not take it, or did not answer in time: which of the two was deaf then, nobody knows."""

    at: int
    reason: str


class Unfunded(NamedTuple):
    """The payer, or with a `reason` of its own a budget of his, does not cover the window to be reserved."""

    at: int
    reason: str = ""


class Reported(NamedTuple):
    """A signed receipt came in."""

    at: int
    window: int
    used_ms: int
    final: bool
    ok: bool
    reason: str
    caused_by: str


class Saved(NamedTuple):
    """A signed checkpoint came in: what the lease did in its first `used_ms` is safe."""

    at: int
    used_ms: int


class Judged(NamedTuple):
    """What its reported result is worth was decided."""

    at: int
    verdict: Verdict


class StopAsked(NamedTuple):
    """The buyer or the network wants it to end; a running lease ends with its final receipt."""

    at: int
    reason: str
    by: str


class Lost(NamedTuple):
    """The node vanished, restarted, or let the time limit pass, or it was shut out; `reason` says which."""

    at: int
    reason: str
    caused_by: str = "provider"


Event = Accepted | Declined | Unfunded | Reported | Saved | Judged | StopAsked | Lost


class Reserve(NamedTuple):
    """Hold money for a window."""

    window: int
    amount_microusd: int


class Settle(NamedTuple):
    """Close a window: charge `used_ms`, keep what `kept_ms` of it cost, give back the rest, reserve `following`.

    What is charged comes first from what was kept before, all of which is then settled.
    """

    window: int
    used_ms: int
    kept_ms: int = 0
    following: Reserve | None = None


class Release(NamedTuple):
    """Give back all that a window held, and all that was kept before."""

    window: int


class Stop(NamedTuple):
    """Tell the node to end the lease."""


class Free(NamedTuple):
    """The node's capacity is free."""


class Vote(NamedTuple):
    """A result was reported: it is to be judged."""


class Wasted(NamedTuple):
    """A payee worked `lost_ms` in vain, and it was not his fault."""

    lost_ms: int


class Undecided(NamedTuple):
    """Its result decides nothing, and that is not its payer's doing: what the lease cost is to be made good."""


class Ended(NamedTuple):
    """The lease is over. `paid`: its last window was settled; `ok`: it has a result that is believed."""

    ok: bool
    paid: bool


class Refused(NamedTuple):
    """The event does not fit the lease; nothing changed."""

    code: str


MoneyEffect = Reserve | Settle | Release | Wasted | Undecided
Effect = MoneyEffect | Stop | Free | Vote | Ended | Refused
