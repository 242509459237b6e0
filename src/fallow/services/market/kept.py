"""Which blobs must stay: those of jobs that are open, ended lately, prove that a node was wrong, or make canaries."""

from __future__ import annotations

from typing import Final

from fallow.domain.calls.jobs import JobBlobs, JobBlobsRef, KeptJobs
from fallow.domain.errors import NotFound
from fallow.domain.jobs import Item, Job
from fallow.ports.database import Database
from fallow.ports.market_store import MarketStore
from fallow.services.market.seeds import Seeds

JOBS_A_PAGE: Final = 5000
ITEMS_A_PAGE: Final = 1000
"""With an input, a checkpoint and some results each they fit into a message of the bus."""

VOTES_A_PAGE: Final = 1000


class Kept:
    """Answers the collector of blobs."""

    def __init__(self, database: Database, store: MarketStore, seeds: Seeds) -> None:
        self._database = database
        self._store = store
        self._seeds = seeds

    async def jobs(self, request: KeptJobs) -> list[str]:
        """Ids of jobs whose blobs are kept, in pages."""
        async with self._database.transaction() as tx:
            canaries = sorted({known.job.order.id for known in await self._seeds.known(tx)})
            return await self._store.kept_jobs(tx, request.ended_after, canaries, request.after, JOBS_A_PAGE)

    async def blobs(self, request: JobBlobsRef) -> JobBlobs:
        """Blobs that a job names, in pages.

        Raises:
            NotFound: there is no such job.
        """
        async with self._database.transaction() as tx:
            job = await self._store.job(tx, request.job)
            if job is None:
                raise NotFound("job.unknown", f"There is no job {request.job}.")
            items = await self._store.items(tx, request.job, request.after, ITEMS_A_PAGE)
            first = request.after < 0
            evidence = await self._store.evidence_of(tx, request.job, VOTES_A_PAGE) if first else []
        blobs = set(job.needs.blobs) if first else set()
        results: set[str] = {vote.result for each in evidence for vote in each.votes if vote.result}
        for item in items:
            blobs |= _blobs(job, item)
            results |= {result for result in (item.result, *(vote.result for vote in item.votes)) if result}
        owner = job.replay.account if job.replay is not None else job.account
        last = items[-1].index if len(items) == ITEMS_A_PAGE else None
        return JobBlobs(owner=owner.hex(), blobs=sorted(blobs), results=sorted(results), last=last)


def _blobs(job: Job, item: Item) -> set[str]:
    inputs = job.order.items
    return {blob for blob in (inputs[item.index] if inputs else None, item.checkpoint) if blob}
