"""Nodes: as everybody, their owners, and they themselves see them. Times are milliseconds since 1970 UTC."""

from __future__ import annotations

from fallow.domain.resources import Resources, Terms
from fallow.domain.views.base import View


class NodeView(View, frozen=True, kw_only=True):
    """An enrolled node as the public sees it.

    `confirmed` counts its results that another owner's node confirmed since it was last found wrong, `wrong` how often
    it was, and `why` is the code of the last time. `missed` counts roll calls, see `fallow.domain.verification`.
    """

    node: str
    label: str
    account: str
    state: str
    total: Resources | None
    free: Resources | None
    terms: Terms | None
    attributes: dict[str, str]
    country: str
    trust: str
    confirmed: int
    wrong: int
    leases: int
    last_seen_at: int | None
    spot: Terms | None = None
    cell: str = ""
    why: str = ""
    missed: int = 0


class RefusalView(View, frozen=True, kw_only=True):
    """A record of a node that changed nothing, and the code that says why."""

    boot: int
    seq: int
    code: str
    at: int


class StandingView(View, frozen=True, kw_only=True):
    """How the market sees a node, told to itself.

    `state` is as in `NodeView`, or `unknown` as long as it has no offer of it. `suspended_until` is when it may work
    again after it was found wrong, `why` the code of the last time, and `left_alone_until` when it is asked again
    after it turned work down; 0: now. `refused` are its latest records that changed nothing. `usage_microusd` is what
    its account has earned from buyers, with all its nodes, by class of credits.
    """

    state: str
    trust: str
    confirmed: int
    wrong: int
    suspended_until: int
    left_alone_until: int
    refused: list[RefusalView]
    usage_microusd: dict[str, int]
    why: str = ""


class OwnLeaseView(View, frozen=True, kw_only=True):
    """What a node works on now, told to its owner: never whose it is. `owed_microusd` is what ended windows came to."""

    id: str
    vertical: str
    price_microusd_per_hour: int
    started_at: int | None
    running_ms: int
    spot: bool
    owed_microusd: int


class DayView(View, frozen=True, kw_only=True):
    """What a node was in the last 24 hours, as the market saw it since it started.

    `slots` has a hexadecimal digit for each `slot_ms`, the last for the slot in which `at` lies. A digit is the sum of
    what the node was in that time: 1 busy, 2 idle, 4 paused by its owner, 8 offline; 0: nobody saw it.
    """

    at: int
    slot_ms: int
    slots: str


class OwnNodeView(View, frozen=True, kw_only=True):
    """A node as its owner's account sees it; `offer` is None as long as the market has none of it.

    `suspended_until`, `left_alone_until` and `refused` are as in `StandingView`, the reasons as in `EnrolledView`.
    `day` is None where `offer` is.
    """

    node: str
    label: str
    enrolled_at: int
    offer: NodeView | None
    leases: list[OwnLeaseView]
    suspended_until: int
    left_alone_until: int
    refused: list[RefusalView]
    banned_reason: str = ""
    vouched_reason: str = ""
    day: DayView | None = None
