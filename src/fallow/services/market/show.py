"""What the market shows of its jobs, leases and nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import msgspec

from fallow.domain.billing import deposit
from fallow.domain.identity import address_text
from fallow.domain.jobs import Item, ItemState, Job
from fallow.domain.leases import Lease
from fallow.domain.matching import Place, Wish, candidates, obstacles, price_of, why_not
from fallow.domain.offers import Evidence, Refusal
from fallow.domain.reruns import Rerun
from fallow.domain.reserve import Use
from fallow.domain.verification import LEVELS, NEW, SUSPENDED, Standing, suspended_until
from fallow.domain.views.base import View
from fallow.domain.views.checks import EvidenceView, RerunView, VoteView
from fallow.domain.views.jobs import CandidateView, ItemView, JobView, LeaseView, QuoteView
from fallow.domain.views.money import ReserveUseView
from fallow.domain.views.nodes import NodeView, RefusalView, StandingView
from fallow.ports.bus import MESSAGE_BYTES_MAX
from fallow.services.market.brain import Brain
from fallow.services.market.floor import Slot

CANDIDATES_SHOWN = 50
PAGE_BYTES_MAX = MESSAGE_BYTES_MAX // 2
"""Of a list whose entries can be long, such as that of nodes, which say of themselves what they like."""

Shown = TypeVar("Shown", bound=View)

TrustOf = Callable[[bytes], str]
"""Trust level of a node, as a buyer is shown it."""

RunningOf = Callable[[Item], int]
"""How long leases of an item run now, in milliseconds."""

PLAIN_DATA = (
    "The owner of the machine that runs this can read the program and its data: "
    "nothing that is computed in plain text is hidden from the hardware's owner."
)


def job_view(
    job: Job, items: Sequence[Item], reserved_microusd: int, trust_of: TrustOf, running_of: RunningOf
) -> JobView:
    """Show a job."""
    levels = Counter(trust_of(item.node) for item in items if item.node)
    counts = Counter(item.state.value for item in items)
    return JobView(
        id=job.order.id,
        state=job.state.value,
        label=job.order.label,
        vertical=job.order.vertical,
        created_at=job.created_at,
        ended_at=job.ended_at,
        counts={state.value: counts[state.value] for state in ItemState},
        used_ms=sum(item.used_ms for item in items),
        owed_microusd=sum(item.owed_microusd for item in items),
        reserved_microusd=reserved_microusd,
        reason=job.reason or next((item.reason for item in items if item.reason), ""),
        budget_microusd=job.order.budget_microusd,
        secrets=list(job.needs.secrets),
        trust={level: levels[level] for level in (*LEVELS, SUSPENDED) if levels[level]},
        running_ms=sum(map(running_of, items)),
    )


def item_view(item: Item, trust_of: TrustOf, running_of: RunningOf) -> ItemView:
    """Show an item."""
    return ItemView(
        index=item.index,
        state=item.state.value,
        attempts=item.attempts,
        node=item.node.hex() if item.node else None,
        reason=item.reason,
        result=item.result,
        checked=item.checked,
        used_ms=item.used_ms,
        owed_microusd=item.owed_microusd,
        checkpoint=item.checkpoint,
        trust=trust_of(item.node) if item.node else "",
        running_ms=running_of(item),
    )


def lease_view(lease: Lease, now: int) -> LeaseView:
    """Show a lease."""
    return LeaseView(
        id=lease.id.hex(),
        job=lease.job,
        item=lease.item,
        node=lease.node.hex(),
        state=lease.state.value,
        price_microusd_per_hour=lease.price_microusd_per_hour,
        proposed_at=lease.proposed_at,
        started_at=lease.started_at,
        ended_at=lease.ended_at,
        reason=lease.reason,
        caused_by=lease.caused_by,
        used_ms=lease.used_ms,
        owed_microusd=lease.owed_microusd,
        saved_ms=lease.saved_ms,
        spot=lease.spot,
        refunded_microusd=lease.refunded_microusd,
        made_good_microusd=lease.made_good_microusd,
        reserve_short=lease.reserve_short,
        unbacked_microusd=lease.unbacked_microusd,
        running_ms=lease.running_ms(now),
    )


def node_state(slot: Slot, now: int, *, banned: bool) -> str:
    """Busy with leases, idle, paused by its owner, offline, or banned."""
    if banned:
        return "banned"
    if not slot.life.online(now):
        return "offline"
    if not slot.offer.made.open:
        return "paused"
    return "busy" if slot.leases else "idle"


def standing_view(
    brain: Brain, node: bytes, refusals: Iterable[Refusal], usage_microusd: Mapping[str, int], now: int
) -> StandingView:
    """Show a node how it stands."""
    slot = brain.floor.slots.get(node)
    shown = brain.judging.standing(node)
    return StandingView(
        state="unknown" if slot is None else node_state(slot, now, banned=brain.shut_out(slot)),
        trust=brain.trust_of(node, now) or NEW,
        confirmed=shown.confirmed,
        wrong=shown.wrong,
        suspended_until=suspended_until(shown),
        left_alone_until=0 if slot is None else slot.life.cool_until,
        refused=[RefusalView(boot=one.boot, seq=one.seq, code=one.code, at=one.at) for one in refusals],
        usage_microusd=dict(usage_microusd),
        why=shown.why,
    )


def node_view(slot: Slot, standing: Standing, label: str, now: int, *, trust: str, banned: bool) -> NodeView:
    """Show a node."""
    made = slot.offer.made
    return NodeView(
        node=slot.offer.node.hex(),
        label=label,
        account=address_text(slot.offer.account),
        state=node_state(slot, now, banned=banned),
        total=made.total,
        free=slot.free.or_nothing(),
        terms=made.terms,
        spot=slot.offer.spot,
        attributes=made.attributes,
        country=made.country,
        cell=slot.offer.cell,
        trust=trust,
        confirmed=standing.confirmed,
        wrong=standing.wrong,
        leases=len(slot.leases),
        last_seen_at=slot.life.seen_at,
        why=standing.why,
        missed=standing.missed,
    )


def first_of(views: Iterable[Shown], bytes_max: int) -> Iterator[Shown]:
    """The first of them, at least one, that take at most so many bytes together."""
    left = bytes_max
    for place, view in enumerate(views):
        left -= len(msgspec.json.encode(view))
        if left < 0 and place:
            return
        yield view


def evidence_view(evidence: Evidence) -> EvidenceView:
    """Show why a node was found wrong."""
    return EvidenceView(
        lease=evidence.lease.hex(),
        node=evidence.node.hex(),
        at=evidence.at,
        code=evidence.code,
        votes=[
            VoteView(
                lease=vote.lease.hex(),
                node=vote.node.hex(),
                account=address_text(vote.account),
                ok=vote.ok,
                reason=vote.reason,
                result=vote.result,
            )
            for vote in evidence.votes
        ],
    )


def reserve_use_view(use: Use) -> ReserveUseView:
    """Show what the reserve paid about a provider's leases."""
    return ReserveUseView(
        account=address_text(use.account),
        reason=use.reason,
        leases=use.leases,
        refunded_microusd=use.refunded,
        made_good_microusd=use.made_good,
    )


def rerun_view(found: Rerun, suspects: Collection[bytes]) -> RerunView:
    """Show what a re-run has shown."""
    return RerunView(
        lease=found.lease.hex(),
        at=found.at,
        account=address_text(found.account),
        program=found.program,
        nodes=[node.hex() for node in found.nodes],
        same=found.same,
        suspects=[node.hex() for node in found.nodes if node in suspects],
    )


def quote(
    brain: Brain, wish: Wish, window_ms: int, now: int, buyer: bytes = b"", budget_microusd: int | None = None
) -> QuoteView:
    """Say where an order could run now, for how much, and for the other nodes why not.

    `window_ms` is how long a lease's first window is, for which money is reserved; `buyer` is who asks.
    """
    places = brain.places(now)
    fitting = candidates(places, wish)
    affordable = [place for place in fitting if _within(budget_microusd, _deposit(price_of(place, wish), window_ms))]
    too_dear, fitting = len(fitting) - len(affordable), affordable
    price = price_of(fitting[0], wish) if fitting else None
    return QuoteView(
        candidates=[
            CandidateView(
                node=place.node.hex(),
                price_microusd_per_hour=price_of(place, wish),
                trust=brain.trust_of(place.node, now, buyer),
                country=place.country,
                cell=place.cell,
            )
            for place in fitting[:CANDIDATES_SHOWN]
        ],
        nodes_total=len(places),
        why_not=why_not(places, wish) | ({"budget": too_dear} if too_dear else {}),
        deposit_microusd=_deposit(price, window_ms),
        price_microusd_per_hour=price,
        plain_data=PLAIN_DATA,
        on_demand_microusd_per_hour=_cheapest(places, wish._replace(spot=False)),
        spot_microusd_per_hour=_cheapest(places, wish._replace(spot=True)),
        owners=_independent(fitting, brain.floor.networks),
    )


def _independent(places: Sequence[Place], networks: Mapping[bytes, str]) -> int:
    """How many results these nodes give at most, of as many owners on as many networks."""
    lines = {networks.get(place.node) or place.node for place in places}
    return min(len({place.account for place in places}), len(lines))


def _within(budget_microusd: int | None, amount_microusd: int) -> bool:
    return budget_microusd is None or amount_microusd <= budget_microusd


def first_deposit(brain: Brain, wish: Wish, window_ms: int, now: int) -> int:
    """What the quote says is reserved for a lease, without a look at every node."""
    slot = next(iter(brain.choices(now).of(wish)), None)
    price = price_of(slot.at_best, wish) if slot is not None else None
    return _deposit(price, window_ms)


def _cheapest(places: Iterable[Place], wish: Wish) -> int | None:
    return min((price_of(place, wish) for place in places if not obstacles(place, wish)), default=None)


def _deposit(price_microusd_per_hour: int | None, window_ms: int) -> int:
    """Nothing when no node fits."""
    if price_microusd_per_hour is None:
        return 0
    return deposit(price_microusd_per_hour, window_ms)
