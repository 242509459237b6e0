"""Which lease an account reaches when it wants to look into its running work."""

from __future__ import annotations

from fallow.domain.errors import Conflict, NotFound
from fallow.domain.leases import Lease, LeaseState
from fallow.services.market.brain import Brain


def lease_to_reach(brain: Brain, account: bytes, job_id: str, index: int) -> Lease:
    """Return the lease that does an item's work now: of several replicas the one that has run longest.

    A replica that the network ordered to check a result is not the buyer's to look into.

    Raises:
        NotFound: there is no such item of this account's open jobs.
        Conflict: it does not run now (`item.not_running`).
    """
    entry = brain.jobs.get(job_id)
    if entry is None or entry.job.account != account or index not in entry.items:
        raise NotFound("item.not_open", f"Job {job_id} has no open item {index}.", "See: fallow job items JOB")
    item = entry.items[index]
    leases = (brain.leases[lease] for lease in item.leases)
    running = [lease for lease in leases if lease.state is LeaseState.RUNNING and lease.payer == account]
    if not running:
        raise Conflict("item.not_running", f"Item {index} is {item.state}: no node works on it now.")
    return min(running, key=lambda lease: (lease.started_at or 0, lease.id))
