"""What the market's mind wants done: rows to write, money to move, messages to send once it is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from fallow.domain.billing import Charge, MeterKey
from fallow.domain.canaries import Known
from fallow.domain.chart import Kind, Parts
from fallow.domain.checks import StartKey
from fallow.domain.decisions import Decision
from fallow.domain.draws import Draw
from fallow.domain.happenings import Gathering
from fallow.domain.jobs import Item, ItemState, Job, JobState
from fallow.domain.leases import Lease
from fallow.domain.offers import Evidence, Refusal
from fallow.domain.reruns import Rerun
from fallow.domain.reserve import TallyKey
from fallow.domain.views.jobs import JobEvent


class Hold(NamedTuple):
    """Reserve `amount_microusd` of the payer for a window of the lease, from the credit classes of `parts` if given."""

    lease: Lease
    window: int
    amount_microusd: int
    parts: Parts | None = None


class Collect(NamedTuple):
    """Take the charge from what was kept of the lease's money and from what `lease.held` holds for a window.

    Of the window, `keep_microusd` are kept until its work is of use; the rest is given back, and the next window
    reserved with it. `opens` says that what was kept before is settled with it; without a charge that is given back.
    """

    lease: Lease
    window: int
    charge: Charge
    keep_microusd: int = 0
    following: Hold | None = None
    opens: bool = False


class MakeGood(NamedTuple):
    """Pay from the reserve, as far as it goes, a REFUND to the payer or what is LOST to the payee.

    `accounts` are those on which it may pay, in order.
    """

    lease: Lease
    kind: Kind
    amount_microusd: int
    accounts: tuple[bytes, ...]


Money = Hold | Collect | MakeGood


class Changes:
    """Collected while inputs are applied; written in one transaction, then sent.

    `money` is in the order in which it must move. Messages are lost when the process dies before sending them;
    the leases' deadlines and the nodes' beats make up for that.
    """

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.items: dict[tuple[str, int], Item] = {}
        self.leases: dict[bytes, Lease] = {}
        self.secrets: dict[str, bytes | None] = {}
        self.offers: set[bytes] = set()
        self.meters: set[MeterKey] = set()
        self.meters_over: list[MeterKey] = []
        self.tallies: set[TallyKey] = set()
        self.starting: set[StartKey] = set()
        self.hours: set[int] = set()
        self.money: list[Money] = []
        self.proposals: list[Lease] = []
        self.stops: list[tuple[bytes, bytes]] = []
        self.events: list[JobEvent] = []
        self.refusals: list[Refusal] = []
        self.standings: set[bytes] = set()
        self.evidence: list[Evidence] = []
        self.draws: list[Draw] = []
        self.known: dict[tuple[str, int], Known | None] = {}
        self.reruns: list[Rerun] = []
        self.moved: dict[bytes, Counter[tuple[int, Kind]]] = {}
        self.shown: list[Decision] = []
        self.happened = Gathering()

        self.moving: set[bytes] = set()

    def move(self, money: Money) -> None:
        """Have money moved; `moving` names the leases for which some waits."""
        self.money.append(money)
        self.moving.add(money.lease.id)

    def count(self, lease: bytes, kind: Kind, parts: Mapping[int, int]) -> None:
        """Count what moved for a lease, by credit class."""
        moved = self.moved.setdefault(lease, Counter())
        for credit, amount in parts.items():
            moved[credit, kind] += amount

    def tell(
        self, job_id: str, now: int, state: JobState | ItemState, *, item: Item | None = None, reason: str = ""
    ) -> None:
        """Tell whoever watches that a job, or an item of it, changed."""
        self.events.append(
            JobEvent(
                job=job_id,
                at=now,
                state=state.value,
                item=item.index if item else None,
                node=item.node.hex() if item and item.node else None,
                reason=item.reason if item else reason,
            )
        )

    @property
    def to_write(self) -> bool:
        """Whether a transaction is needed."""
        return bool(
            self.jobs
            or self.items
            or self.leases
            or self.offers
            or self.money
            or self.refusals
            or self.standings
            or self.meters_over
            or self.hours
        )
