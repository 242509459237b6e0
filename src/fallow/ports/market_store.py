"""What the market keeps. Nobody else writes there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from fallow.domain.billing import MeterKey
from fallow.domain.checks import StartKey
from fallow.domain.chronicle import Hour
from fallow.domain.jobs import Item, Job
from fallow.domain.leases import Lease
from fallow.domain.offers import Evidence, Offer, Refusal
from fallow.domain.reserve import Tally, TallyKey, Use
from fallow.domain.verification import Standing
from fallow.ports.database import Transaction


class Cursor(NamedTuple):
    """How far ingest's log was applied: all batches up to position `pos`, and `records` of the batch after it."""

    pos: int
    records: int


class MarketRows(NamedTuple):
    """Everything of the market that a transaction changes. `secrets` are by job, encrypted; None deletes them.

    `meters_over` are deleted: nothing is charged by them any more.
    """

    jobs: Sequence[Job]
    items: Mapping[tuple[str, int], Item]
    leases: Sequence[Lease]
    offers: Sequence[Offer]
    meters: Mapping[MeterKey, int]
    tallies: Mapping[TallyKey, Tally]
    refusals: Sequence[Refusal]
    standings: Mapping[bytes, Standing]
    evidence: Sequence[Evidence]
    secrets: Mapping[str, bytes | None]
    cursor: Cursor
    starting: Mapping[StartKey, int]
    hours: Mapping[int, Hour]
    meters_over: Sequence[MeterKey] = ()


class MarketState(NamedTuple):
    """What is open, but for offers: these are many; and the latest hours, as many as a chronicle keeps."""

    jobs: list[tuple[Job, list[Item]]]
    leases: list[Lease]
    meters: dict[MeterKey, int]
    tallies: dict[TallyKey, Tally]
    standings: dict[bytes, Standing]
    secrets: dict[str, bytes]
    cursor: Cursor
    starting: dict[StartKey, int]
    hours: dict[int, Hour]


class MarketStore(Protocol):
    """Jobs, items, leases, offers, meters."""

    async def lead(self, tx: Transaction, holder: str, now: int, until: int) -> int | None:
        """Become the one market that acts until `until`, or stay it; returns the term, or None while another is."""
        ...

    async def until(self, tx: Transaction) -> int:
        """When the term of the market that acts, or acted last, ends if it is not renewed."""
        ...

    async def step_down(self, tx: Transaction, term: int, now: int) -> None:
        """End a term early, so that the next market need not wait for its end."""
        ...

    async def confirm(self, tx: Transaction, term: int) -> None:
        """Hold the term for the rest of the transaction.

        Raises:
            Unavailable: another market leads now; what this one has in mind is stale.
        """
        ...

    async def load(self, tx: Transaction) -> MarketState:
        """Read what is open."""
        ...

    async def offers(self, tx: Transaction, after: bytes, limit: int) -> list[Offer]:
        """Offers in the order of their nodes' ids, from the first one above `after` on."""
        ...

    async def save(self, tx: Transaction, rows: MarketRows) -> None:
        """Write changed rows over their older versions. Refusals above their bounds go, the oldest first."""
        ...

    async def jobs_by_id(self, tx: Transaction, ids: Sequence[str]) -> dict[str, tuple[Job, list[Item]]]:
        """Those of these jobs that exist, open or ended, with their items."""
        ...

    async def owner(self, tx: Transaction, job_id: str) -> bytes | None:
        """Account that a job belongs to; None when there is no such job."""
        ...

    async def items(self, tx: Transaction, job_id: str, after: int, limit: int) -> list[Item]:
        """Items of a job with an index above `after`, in order."""
        ...

    async def jobs(self, tx: Transaction, account: bytes, after: str, limit: int) -> list[tuple[Job, list[Item]]]:
        """Jobs of an account, the latest first; `after` is the id of the last one seen."""
        ...

    async def job(self, tx: Transaction, job_id: str) -> Job | None:
        """A job without its items."""
        ...

    async def kept_jobs(
        self, tx: Transaction, ended_after: int, also: Sequence[str], after: str, limit: int
    ) -> list[str]:
        """Ids above `after` of jobs that are open, ended after a time, are among `also`, or left evidence, in order."""
        ...

    async def evidence(self, tx: Transaction, limit: int, after: bytes = b"") -> list[Evidence]:
        """Why nodes were found wrong, the latest first; those behind that of the lease `after`, if any is named."""
        ...

    async def evidence_of(self, tx: Transaction, job_id: str, limit: int) -> list[Evidence]:
        """Do the same for the leases of one job."""
        ...

    async def refusals_of(self, tx: Transaction, node: bytes, limit: int) -> list[Refusal]:
        """The latest refusals of a node's records, the latest first."""
        ...

    async def leases(self, tx: Transaction, job_id: str, skip: int, limit: int) -> list[Lease]:
        """Leases of a job, oldest first, without the first `skip`."""
        ...

    async def reserve_uses(self, tx: Transaction, limit: int) -> list[Use]:
        """What the reserve paid by provider and reason, the largest sums first."""
        ...
