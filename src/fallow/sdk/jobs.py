"""Quotes, jobs and what happens to them."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping
from contextlib import aclosing

import httpx2
import msgspec

from fallow.domain.decoding import UNREADABLE
from fallow.domain.errors import KINDS, InvalidInput, NotFound, Unavailable
from fallow.domain.jobs import FINAL, ItemState
from fallow.domain.orders import Order
from fallow.domain.views.base import ErrorView
from fallow.domain.views.checks import EvidenceView
from fallow.domain.views.jobs import ItemView, JobEvent, JobView, LeaseView, QuoteView
from fallow.sdk.accounts import new_id
from fallow.sdk.paging import PAGE, paged
from fallow.sdk.patience import PASSING, Outage
from fallow.sdk.wire import Wire, arguments

WITHOUT_RESULT = frozenset({ItemState.FAILED, ItemState.CANCELLED})
SILENCE = httpx2.Timeout(10.0, read=45.0)
"""Three heartbeats of the server missing: the connection is dead."""

Event = JobView | JobEvent

_ID = re.compile("[0-9a-f]{32}")


class JobCalls(Wire):
    """What a buyer does with jobs."""

    async def quote(self, order: Order, *, secrets: Collection[str] = ()) -> QuoteView:
        """What an order would cost and where it could run; nothing is bought.

        `secrets` are the names of those that would come with it: they go to proven nodes only.
        """
        body = {**msgspec.to_builtins(order), "secrets": sorted(secrets)} if secrets else order
        return await self._call("POST", "/v1/quotes", QuoteView, body=body)

    async def submit(self, order: Order, *, secrets: Mapping[str, str] | None = None) -> JobView:
        """Buy. The same order again changes nothing and answers the same.

        `secrets` are variables of the program, by name; they stand in no record, and go to proven nodes only.

        Raises:
            Conflict: another order has this id.
            InsufficientFunds: the account cannot pay for it.
            NotFound: `blob.missing`, an input was not uploaded.
            NotAllowed: `delegation.*`, the client's key may no longer sign for the account.
        """
        key = self._signing_key
        # Secrets are no part of what is signed: their values are kept nowhere.
        signature = (
            {} if key is None else {"Fallow-Key": key.public, "Fallow-Signature": key.order(msgspec.json.encode(order))}
        )
        return await self._call("POST", "/v1/jobs", JobView, body=_purchase(order, secrets or {}), headers=signature)

    async def job(self, job_id: str) -> JobView:
        """One job."""
        return await self._call("GET", _path(job_id), JobView)

    async def jobs(self, *, after: str | None = None, limit: int | None = None) -> list[JobView]:
        """Your jobs; `after` is the last id seen."""
        return await self._call("GET", "/v1/jobs", list[JobView], query=arguments(after=after, limit=limit))

    def all_jobs(self) -> AsyncIterator[JobView]:
        """All your jobs, the latest first, page by page."""
        return paged(lambda after: self.jobs(after=after, limit=PAGE), lambda job: job.id)

    async def order(self, job_id: str) -> Order:
        """What a job was ordered as."""
        return await self._call("GET", f"{_path(job_id)}/order", Order)

    async def rerun(self, job_id: str, *, failed: bool = False, secrets: Mapping[str, str] | None = None) -> JobView:
        """Order the work of a job once more, as a new job; with `failed` only the items that ended without a result.

        Secret values are not kept beyond a job: those that it had are needed again.

        Raises:
            InvalidInput: `job.nothing_failed`, there are no such items; `job.secrets`, secret values are missing.
            NotFound: `job.inputs_gone`, what it read is not kept any more.
        """
        lacking = [name for name in (await self.job(job_id)).secrets if name not in (secrets or {})]
        if lacking:
            raise InvalidInput(
                "job.secrets",
                f"Job {job_id} had secret values that are not kept: {', '.join(lacking)}.",
                f"Give them again: {' '.join(f'--secret {name}' for name in lacking)}",
            )
        order = msgspec.structs.replace(await self.order(job_id), id=new_id())
        items = order.items
        if failed:
            ended = [item.index async for item in self.all_items(job_id) if item.state in WITHOUT_RESULT]
            if not ended:
                raise InvalidInput("job.nothing_failed", f"No item of job {job_id} has failed or was cancelled.")
            order = msgspec.structs.replace(order, items=[order.items[index] for index in ended if order.items])
        try:
            return await self.submit(order, secrets=secrets)
        except NotFound as error:
            if error.code != "blob.missing":
                raise
            inputs = (f"the input of item {index}" for index, name in enumerate(items) if name in error.message)
            gone = next(inputs, "its program")
            raise NotFound(
                "job.inputs_gone",
                f"Job {job_id} cannot run again: {gone} is not kept any more.",
                "Nothing was bought. Order it anew from your files: fallow run, fallow map",
            ) from error

    async def items(self, job_id: str, *, after: int | None = None, limit: int | None = None) -> list[ItemView]:
        """A page of a job's items; `after` is the last index seen."""
        query = arguments(after=after, limit=limit)
        return await self._call("GET", f"{_path(job_id)}/items", list[ItemView], query=query)

    async def item(self, job_id: str, index: int) -> ItemView:
        """One item; NotFound when the job has no such index."""
        found = await self.items(job_id, after=index - 1, limit=1)
        if not found or found[0].index != index:
            raise KINDS["NotFound"]("job.item", f"Job {job_id} has no item {index}.")
        return found[0]

    def all_items(self, job_id: str) -> AsyncIterator[ItemView]:
        """All items by their index, page by page."""
        return paged(lambda after: self.items(job_id, after=after, limit=PAGE), lambda item: item.index)

    async def leases(self, job_id: str, *, after: int | None = None, limit: int | None = None) -> list[LeaseView]:
        """A job's leases, open and ended, with who ended them and why."""
        query = arguments(after=after, limit=limit)
        return await self._call("GET", f"{_path(job_id)}/leases", list[LeaseView], query=query)

    async def all_leases(self, job_id: str) -> AsyncIterator[LeaseView]:
        """All leases of a job, the oldest first, page by page."""
        seen = 0
        while page := await self.leases(job_id, after=seen - 1, limit=PAGE):
            for lease in page:
                yield lease
            seen += len(page)

    async def job_evidence(self, job_id: str, *, limit: int | None = None) -> list[EvidenceView]:
        """Results of a job that were refused, the latest first, and what the others said of the same item."""
        query = arguments(limit=limit)
        return await self._call("GET", f"{_path(job_id)}/evidence", list[EvidenceView], query=query)

    async def cancel(self, job_id: str) -> JobView:
        """End a job. What it used until then is paid."""
        return await self._call("POST", f"{_path(job_id)}/cancel", JobView)

    async def events(self, job_id: str) -> AsyncGenerator[Event, None]:
        """How the job stands now (a JobView), then each change, until it has ended.

        A broken connection is made again, and begins with a JobView: what changed in between is in it.
        """
        outage = Outage(self._patience)
        while True:
            try:
                async with aclosing(self._events_once(job_id)) as events:
                    async for event in events:
                        outage.over()
                        yield event
                        if is_final(event):
                            return
                seen: Exception = Unavailable("sdk.stream", "The stream of events broke off.")
            except PASSING as error:
                seen = error
            await outage.pause(seen)

    async def wait(self, job_id: str) -> JobView:
        """Return the job once it has ended."""
        async for _ in self.events(job_id):
            pass
        return await self.job(job_id)

    async def _events_once(self, job_id: str) -> AsyncGenerator[Event, None]:
        request = self._http.build_request("GET", f"{_path(job_id)}/events", timeout=SILENCE)
        async with self._opened(request) as response:
            async for event in httpx2.EventSource(response):
                yield _read(event)


def _path(job_id: str) -> str:
    """Where a job is. What is no id would lead elsewhere: `../account`."""
    if not _ID.fullmatch(job_id):
        raise InvalidInput("job.id", f"{job_id[:80]!r} is no job's id: 32 hex digits.", "List your jobs: fallow job ls")
    return f"/v1/jobs/{job_id}"


def _purchase(order: Order, secrets: Mapping[str, str]) -> object:
    return {**msgspec.to_builtins(order), "secrets": dict(secrets)} if secrets else order


def is_final(event: Event) -> bool:
    """Whether the job (and not one item) has ended with this event."""
    return event.state in FINAL and (isinstance(event, JobView) or event.item is None)


def _read(event: httpx2.ServerSentEvent) -> Event:
    data = event.data.encode()
    try:
        if event.event == "error":
            view = msgspec.json.decode(data, type=ErrorView)
            raise KINDS.get(view.kind, Unavailable)(view.code, view.message, view.hint)
        # A job event is the whole job, or the news that its state changed.
        whole = event.event == "job" and "counts" in msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        return msgspec.json.decode(data, type=JobView) if whole else msgspec.json.decode(data, type=JobEvent)
    except UNREADABLE as error:
        raise Unavailable("sdk.event", f"An event is not understood: {error}.") from error
