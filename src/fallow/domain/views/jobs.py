"""Jobs, their items and leases, and what an order would come to. Times are milliseconds since 1970 UTC."""

from __future__ import annotations

from fallow.domain.delegations import OPERATOR_ATTESTED
from fallow.domain.views.base import View


class ItemView(View, frozen=True, kw_only=True):
    """One item of a job.

    `reason` says why it is in a final or waiting state; empty when all is well. `checked` says that nodes of more
    than one owner gave the same result. `trust` is its node's trust level now, as its buyer sees it; "" for a node
    that is gone. `checkpoint` is the SHA-256 of the archive that its next lease goes on from.
    `running_ms` is how long leases run now that its buyer pays for; `used_ms` is what ended ones used.
    """

    index: int
    state: str
    attempts: int
    node: str | None
    reason: str
    result: str | None
    checked: bool
    used_ms: int
    owed_microusd: int
    checkpoint: str | None = None
    trust: str = ""
    running_ms: int = 0


class JobView(View, frozen=True, kw_only=True):
    """One job. `counts` maps each item state to its number; `budget_microusd` is the most that it may cost.

    `trust` maps each trust level to how many of its items are, or were last, with a node of that level now. `secrets`
    are the names of the secret values that came with it; the values are deleted when it ends. `running_ms` is how long
    leases run now that its buyer pays for, one added to the other; `used_ms` is what ended ones used.
    """

    id: str
    state: str
    label: str
    vertical: str
    created_at: int
    ended_at: int | None
    counts: dict[str, int]
    used_ms: int
    owed_microusd: int
    reserved_microusd: int
    reason: str
    budget_microusd: int | None = None
    secrets: list[str] = []
    trust: dict[str, int] = {}
    running_ms: int = 0


class JobEvent(View, frozen=True, kw_only=True):
    """A change of a job or of one of its items (`item` is None when it is about the job)."""

    job: str
    at: int
    state: str
    item: int | None = None
    node: str | None = None
    reason: str = ""


class LeaseView(View, frozen=True, kw_only=True):
    """One lease, open or ended. `reason` and `caused_by` (buyer, provider, owner, network or nobody) say why it ended.

    It has run for `running_ms`, if it does now; `used_ms` is what was reported. What it did in its first `saved_ms` is
    in a checkpoint. `receipt` says who stands for its use: the buyer signed for it (mutual), or the operator alone does
    (operator-attested).

    The reserve gave `refunded_microusd` of what is owed back to the buyer, for a result that decides nothing, or
    `made_good_microusd` to the provider, for lost work; `reserve_short` says why not all of it. `unbacked_microusd` was
    paid for work that no checkpoint holds yet, and is kept until it is of use.
    """

    id: str
    job: str
    item: int
    node: str
    state: str
    price_microusd_per_hour: int
    proposed_at: int
    started_at: int | None
    ended_at: int | None
    reason: str
    caused_by: str
    used_ms: int
    owed_microusd: int
    saved_ms: int = 0
    spot: bool = False
    refunded_microusd: int = 0
    made_good_microusd: int = 0
    reserve_short: str = ""
    unbacked_microusd: int = 0
    receipt: str = OPERATOR_ATTESTED
    running_ms: int = 0


class CandidateView(View, frozen=True, kw_only=True):
    """A node that an order could run on now."""

    node: str
    price_microusd_per_hour: int
    trust: str
    country: str
    cell: str = ""


class QuoteView(View, frozen=True, kw_only=True):
    """What an order would cost and where it could run, before any money moves.

    `why_not` maps each requirement that turns nodes away to how many; with no candidates it is the answer to "why
    not". `plain_data` is the sentence about who can read the data. Beside the price as ordered stand the lowest ones on
    demand and as spot; None where nobody can take it so now. `replicas` is how many results of each item the buyer
    pays for, and `compare` how they compare: exact, tolerance or none. `owners` is how many owners, each on a network
    of his own, could give one now: with fewer than `replicas` those results decide that are to be had, if they agree.
    """

    candidates: list[CandidateView]
    nodes_total: int
    why_not: dict[str, int]
    deposit_microusd: int
    price_microusd_per_hour: int | None
    plain_data: str
    on_demand_microusd_per_hour: int | None = None
    spot_microusd_per_hour: int | None = None
    replicas: int = 1
    compare: str = "none"
    owners: int = 0
