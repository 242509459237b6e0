"""What happens to a job, as server-sent events."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from typing import Any

import msgspec
from litestar import Request, get
from litestar.types import Receive, Send

from fallow.domain import calls
from fallow.domain.errors import FallowError, NotAllowed, Unavailable
from fallow.domain.jobs import FINAL
from fallow.domain.views.base import error_view
from fallow.domain.views.jobs import JobEvent, JobView
from fallow.http.answers import keyed
from fallow.http.auth import buyer, until_refused
from fallow.http.gateway import Gateway
from fallow.http.lasting import LastingResponse, first_of, gone, send_event, send_piece
from fallow.http.params import Account, JobId, Parts

log = logging.getLogger(__name__)


@get(
    "/v1/jobs/{job_id:str}/events", guards=[buyer], media_type="text/event-stream", responses=keyed(404), tags=["jobs"]
)
async def events(
    gateway: Parts, request: Request[Any, calls.keys.KeyInfo, Any], payer: Account, job_id: JobId
) -> LastingResponse:
    """A `job` event with the JobView now, then each change as `item` or `job` with a JobEvent, until the job ends.

    Comments keep the connection open. An `error` event with an ErrorView ends the stream early: connect again. It also
    ends when what opened it is good no more.
    """
    feed = Feed(gateway, request, payer, job_id)
    await feed.job()
    held = ExitStack()
    held.enter_context(gateway.streams.opened(payer))
    return LastingResponse(feed.run, held, media_type="text/event-stream")


class Feed:
    """The events of one job to one client."""

    def __init__(self, gateway: Gateway, request: Request[Any, Any, Any], account: str, job_id: str) -> None:
        self._gateway = gateway
        self._request = request
        self._account = account
        self._id = job_id

    async def job(self) -> JobView:
        """Ask how the job stands; NotFound when the account has no such job."""
        return await self._gateway.ask(calls.jobs.JOB, calls.jobs.JobRef(account=self._account, job=self._id), JobView)

    async def run(self, receive: Receive, send: Send) -> None:
        """Send until the job has ended, or the client is gone or no longer let in."""
        await first_of(self._changes(send), self._heartbeat(send), self._refused(send), gone(receive))

    async def _refused(self, send: Send) -> None:
        try:
            await until_refused(self._request)
        except NotAllowed as error:
            await send_event(send, "error", error_view(error))

    async def _changes(self, send: Send) -> None:
        try:
            # First listen and then look, so that no change falls between the two.
            async with self._gateway.bus.subscribe(calls.jobs.job_events(self._id)) as messages:
                job = await self.job()
                await send_event(send, "job", job)
                if job.state in FINAL:
                    return
                async for message in messages:
                    if await _forward(send, message.data):
                        return
        except FallowError as error:
            await send_event(send, "error", error_view(error))

    async def _heartbeat(self, send: Send) -> None:
        """Keep proxies from closing the stream. The bus may lose the last event, so look for the end as well."""
        while True:
            await self._gateway.clock.sleep(self._gateway.limits.heartbeat_s)
            await send_piece(send, b": still here\n\n")
            try:
                job = await self.job()
            except Unavailable:
                continue
            except FallowError as error:
                await send_event(send, "error", error_view(error))
                return
            if job.state in FINAL:
                await send_event(send, "job", job)
                return


async def _forward(send: Send, data: bytes) -> bool:
    """Pass one change on; whether it was the job's last."""
    try:
        event = msgspec.json.decode(data, type=JobEvent)
    except msgspec.MsgspecError:
        log.exception("an event of a job is malformed")
        return False
    await send_event(send, "job" if event.item is None else "item", event)
    return event.item is None and event.state in FINAL


ROUTES = [events]
