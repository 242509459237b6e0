"""Quotes and jobs of a buyer."""

from __future__ import annotations

import re
from typing import Annotated, Final

from litestar import get, post
from litestar.params import JSONBody
from msgspec import Meta, structs

from fallow.domain import calls
from fallow.domain.errors import InvalidInput, NotFound
from fallow.domain.identity import address
from fallow.domain.network_views import RivalView
from fallow.domain.orders import Order
from fallow.domain.prices import Delivered, cost_microusd, delivered_by
from fallow.domain.views.checks import EvidenceView
from fallow.domain.views.jobs import ItemView, JobView, LeaseView, QuoteView
from fallow.http.answers import keyed
from fallow.http.auth import buyer
from fallow.http.errors import AnyRequest
from fallow.http.gateway import Gateway
from fallow.http.networks import rival
from fallow.http.params import Account, After, AfterId, JobId, Limit, Parts
from fallow.http.signing import check_order_signature, with_receipts

PAGE: Final = 1000
NODE_OR_ACCOUNT = re.compile("[0-9a-f]{64}|0x[0-9a-f]{40}")


class _Body(Order, frozen=True, kw_only=True):
    """An order in a request, which says more beside it."""

    @property
    def order(self) -> Order:
        """The order alone."""
        return Order(**{name: getattr(self, name) for name in Order.__struct_fields__})


class Purchase(_Body, frozen=True, kw_only=True):
    """An order, and beside it the values of its program's secrets, which are kept apart from it from here on."""

    secrets: calls.jobs.SecretValues = {}

    def __repr__(self) -> str:
        """Leave the values out."""
        return f"Purchase({self.order!r}, secrets={sorted(self.secrets)!r})"


class Enquiry(_Body, frozen=True, kw_only=True):
    """An order that is not made yet, and the names of the secrets that would come with it."""

    secrets: Annotated[list[calls.jobs.SecretName], Meta(max_length=calls.jobs.SECRETS_MAX)] = []


async def check_order(gateway: Gateway, account: str, order: Order) -> None:
    """Check at the door what the market takes for granted: the work is well formed and its inputs are there.

    Raises:
        InvalidInput: nobody here does this kind of work, or it is malformed; a node or an account is named as none is.
        NotFound: `blob.missing`, naming the first input that was not uploaded.
    """
    vertical = gateway.verticals.get(order.vertical)
    if vertical is None:
        known = ", ".join(sorted(gateway.verticals))
        raise InvalidInput("order.vertical", f"This network has no vertical {order.vertical!r}.", f"It has: {known}.")
    for name in (*order.requirements.nodes_allowed, *order.requirements.nodes_denied):
        if not NODE_OR_ACCOUNT.fullmatch(name):
            raise InvalidInput(
                "order.nodes", f"{name[:80]!r} names neither a node nor an account.", "64 hex digits, or 0x and 40."
            )
    # One item stands for all: they differ in nothing but their hash, and a map may have thousands.
    needs = vertical.check_work(order.work, order.items[0] if order.items else None)
    owner = address(account).hex()
    comparator = order.tolerance.program if order.tolerance is not None else None
    for sha256 in sorted(needs.blobs.union(order.items, [comparator] if comparator else [])):
        try:
            await gateway.blobs.size(owner, sha256)
        except NotFound:
            raise NotFound(
                "blob.missing", f"The order reads the blob {sha256}, which you have not uploaded.", "Upload it first."
            ) from None


@post("/v1/quotes", guards=[buyer], status_code=200, responses=keyed(404, 413), tags=["jobs"])
async def quote(gateway: Parts, payer: Account, data: JSONBody[Enquiry]) -> QuoteView:
    """What an order would cost and where it could run; nothing is bought. `secrets` are names only."""
    order = data.order
    await check_order(gateway, payer, order)
    return await gateway.ask(
        calls.jobs.QUOTE, calls.jobs.Enquire(account=payer, order=order, secrets=data.secrets), QuoteView
    )


@post("/v1/jobs", guards=[buyer], responses=keyed(402, 404, 409, 413), tags=["jobs"])
async def submit(gateway: Parts, payer: Account, request: AnyRequest, data: JSONBody[Purchase]) -> JobView:
    """Buy. The same order again changes nothing and answers the same.

    The headers `Fallow-Key` and `Fallow-Signature` (hex) may carry the signature of a key that your account delegated
    to, over the exact bytes of the body; of a body with `secrets`, over its other members without space between them.
    """
    order = data.order
    await check_order(gateway, payer, order)
    await check_order_signature(gateway, payer, order, request)
    asked = calls.jobs.Submit(account=payer, order=order, secrets=data.secrets)
    return await gateway.ask(calls.jobs.SUBMIT, asked, JobView)


@get("/v1/jobs", guards=[buyer], responses=keyed(), tags=["jobs"])
async def jobs(gateway: Parts, payer: Account, after: AfterId = "", limit: Limit = 200) -> list[JobView]:
    """Your jobs; `after` is the last id seen."""
    return await gateway.ask(
        calls.jobs.JOBS, calls.base.AccountRef(account=payer, after=after, limit=limit), list[JobView]
    )


@get("/v1/jobs/{job_id:str}", guards=[buyer], responses=keyed(404), tags=["jobs"])
async def job(gateway: Parts, payer: Account, job_id: JobId) -> JobView:
    """One job."""
    return await gateway.ask(calls.jobs.JOB, calls.jobs.JobRef(account=payer, job=job_id), JobView)


@get("/v1/jobs/{job_id:str}/items", guards=[buyer], responses=keyed(404), tags=["jobs"])
async def items(gateway: Parts, payer: Account, job_id: JobId, after: After = -1, limit: Limit = 200) -> list[ItemView]:
    """A job's items by their index; `after` is the last index seen."""
    request = calls.jobs.JobRef(account=payer, job=job_id, after=after, limit=limit)
    return await gateway.ask(calls.jobs.ITEMS, request, list[ItemView])


@get("/v1/jobs/{job_id:str}/leases", guards=[buyer], responses=keyed(404), tags=["jobs"])
async def leases(
    gateway: Parts, payer: Account, job_id: JobId, after: After = -1, limit: Limit = 200
) -> list[LeaseView]:
    """A job's leases, open and ended, with who ended them and why."""
    request = calls.jobs.JobRef(account=payer, job=job_id, after=after, limit=limit)
    return await with_receipts(gateway, await gateway.ask(calls.jobs.LEASES, request, list[LeaseView]))


@get("/v1/jobs/{job_id:str}/order", guards=[buyer], responses=keyed(404), tags=["jobs"])
async def order(gateway: Parts, payer: Account, job_id: JobId) -> Order:
    """What a job was ordered as."""
    return await gateway.ask(calls.jobs.ORDER, calls.jobs.JobRef(account=payer, job=job_id), Order)


@get("/v1/jobs/{job_id:str}/evidence", guards=[buyer], responses=keyed(404), tags=["jobs"])
async def evidence(gateway: Parts, payer: Account, job_id: JobId, limit: Limit = 200) -> list[EvidenceView]:
    """Results of a job that were refused, the latest first: what a node said, and what the others said of the item."""
    request = calls.jobs.JobRef(account=payer, job=job_id, limit=limit)
    return await gateway.ask(calls.checks.JOB_EVIDENCE, request, list[EvidenceView])


@get("/v1/jobs/{job_id:str}/elsewhere", guards=[buyer], responses=keyed(404), tags=["jobs"])
async def elsewhere(gateway: Parts, payer: Account, job_id: JobId) -> list[RivalView]:
    """What the work of a job that is done costs at those who sell all of it, beside what the whole job cost here."""
    ref = calls.jobs.JobRef(account=payer, job=job_id, limit=PAGE)
    job = await gateway.ask(calls.jobs.JOB, ref, JobView)
    order = await gateway.ask(calls.jobs.ORDER, ref, Order)
    delivered = delivered_by(order, await _all_items(gateway, ref), await _all_leases(gateway, ref))
    if delivered == Delivered():
        return []
    return [
        rival(one, job.owed_microusd, cost_microusd(one, delivered)) for one in gateway.offers if one.sells(delivered)
    ]


async def _all_items(gateway: Gateway, ref: calls.jobs.JobRef) -> list[ItemView]:
    found: list[ItemView] = []
    while page := await gateway.ask(calls.jobs.ITEMS, ref, list[ItemView]):
        found += page
        ref = structs.replace(ref, after=page[-1].index)
    return found


async def _all_leases(gateway: Gateway, ref: calls.jobs.JobRef) -> list[LeaseView]:
    found: list[LeaseView] = []
    while page := await gateway.ask(calls.jobs.LEASES, ref, list[LeaseView]):
        found += page
        ref = structs.replace(ref, after=len(found) - 1)
    return found


@post("/v1/jobs/{job_id:str}/cancel", guards=[buyer], status_code=200, responses=keyed(404), tags=["jobs"])
async def cancel(gateway: Parts, payer: Account, job_id: JobId) -> JobView:
    """End a job. What it used until then is paid."""
    return await gateway.ask(calls.jobs.CANCEL, calls.jobs.JobRef(account=payer, job=job_id), JobView)


ROUTES = [quote, submit, jobs, job, items, leases, order, evidence, elsewhere, cancel]
