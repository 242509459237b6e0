"""Requests about jobs: what their buyers order, and which blobs they need."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from fallow.domain.calls.base import Person, Request
from fallow.domain.orders import Order

SUBMIT = "market.submit"
PLANT = "market.plant"
QUOTE = "market.quote"
CANCEL = "market.cancel"
JOB = "market.job"
JOBS = "market.jobs"
ITEMS = "market.items"
LEASES = "market.leases"
ORDER = "market.order"
KEPT_JOBS = "market.kept_jobs"
JOB_BLOBS = "market.job_blobs"

SECRETS_MAX = 32
SecretName = Annotated[str, Meta(pattern="^[A-Za-z_][A-Za-z0-9_]{0,99}$")]
SecretValues = Annotated[dict[SecretName, Annotated[str, Meta(max_length=8192)]], Meta(max_length=SECRETS_MAX)]
"""Values by name. They stand in no order, record, log, event or view."""


class Submit(Request, frozen=True, kw_only=True):
    """An order in the name of an account, with the secret values that its program gets."""

    account: str
    order: Order
    secrets: SecretValues = {}
    by: Person | None = None

    def __repr__(self) -> str:
        """Leave the values out."""
        return f"Submit(account={self.account!r}, order={self.order!r}, secrets={sorted(self.secrets)!r})"


class Enquire(Request, frozen=True, kw_only=True):
    """An order that an account thinks of, and the names of the secrets that would come with it."""

    account: str
    order: Order
    secrets: Annotated[list[SecretName], Meta(max_length=SECRETS_MAX)] = []


class JobRef(Request, frozen=True, kw_only=True):
    """A job of an account."""

    account: str
    job: str
    after: int = -1
    limit: Annotated[int, Meta(ge=1, le=1000)] = 200


class KeptJobs(Request, frozen=True, kw_only=True):
    """Which jobs' blobs are kept: what is open, ended after `ended_after` (ms since 1970), or proves something.

    `after` is the last id of the page before.
    """

    ended_after: int
    after: str = ""


class JobBlobsRef(Request, frozen=True, kw_only=True):
    """The blobs that a job names in its items with an index above `after`."""

    job: str
    after: int = -1


class JobBlobs(Request, frozen=True, kw_only=True):
    """Blobs of `owner` (hex) that a job needs. `results` are documents that name further ones.

    `last` is the index of the last item that was looked at; None when there are no more.
    """

    owner: str
    blobs: list[str]
    results: list[str]
    last: int | None


def job_events(job_id: str) -> str:
    """Subject of a job's `JobEvent`s, as JSON."""
    return f"events.job.{job_id}"
