"""What a running item writes, while it runs."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated, Any

from litestar import Request, get
from litestar.params import PathParameter, QueryParameter
from litestar.types import Receive, Send

from fallow.domain import calls
from fallow.domain.errors import Conflict
from fallow.domain.streams import Logs, LogSource, Opening
from fallow.http.answers import keyed
from fallow.http.auth import buyer, until_refused
from fallow.http.lasting import LastingResponse, first_of, gone, send_piece
from fallow.http.params import Account, JobId, Parts
from fallow.ports.streams import Stream

LEASE_HEADER = "Fallow-Lease"

ItemIndex = Annotated[int, PathParameter(ge=0, le=2**31)]
Source = Annotated[LogSource, QueryParameter(description="Which of the two to send.")]
Follow = Annotated[bool, QueryParameter(description="Go on until the program ends.")]
Offset = Annotated[int, QueryParameter(ge=0, le=2**53, description="The first byte to send.")]


@get(
    "/v1/jobs/{job_id:str}/items/{index:int}/logs",
    guards=[buyer],
    media_type="application/octet-stream",
    responses=keyed(404, 409, 413),
    tags=["jobs"],
)
async def logs(
    gateway: Parts,
    request: Request[Any, calls.keys.KeyInfo, Any],
    payer: Account,
    job_id: JobId,
    index: ItemIndex,
    source: Source = "stdout",
    offset: Offset = 0,
    follow: Follow = False,
) -> LastingResponse:
    """What a running item has written to `source` from `offset` on; with `follow` also what it writes until it ends.

    `Fallow-Lease` names the lease that runs it: another one begins its output anew. A body that breaks off instead of
    ending is to be asked for again from where it broke; it does so when what asked for it is good no more, too. 409
    when the item does not run: what an item that has ended wrote is among its results.
    """
    want = calls.streams.StreamRef(account=payer, job=job_id, item=index, purpose="logs")
    with ExitStack() as held:
        held.enter_context(gateway.streams.opened(payer))
        grant = await gateway.ask(calls.streams.STREAM, want, calls.streams.StreamGrant)
        stream = await gateway.open(Opening(grant.ticket, Logs(source, offset, follow)))
        held.callback(stream.reset, Conflict("stream.closed", "The reader has gone."))
        headers = {LEASE_HEADER: grant.lease}
        return LastingResponse(
            _Log(stream, request).run, held.pop_all(), media_type="application/octet-stream", headers=headers
        )


class _Log:
    def __init__(self, stream: Stream, request: Request[Any, Any, Any]) -> None:
        self._stream = stream
        self._request = request

    async def run(self, receive: Receive, send: Send) -> None:
        self._stream.end()
        await first_of(self._carry(send), until_refused(self._request), gone(receive))

    async def _carry(self, send: Send) -> None:
        while piece := await self._stream.read():
            await send_piece(send, piece)


ROUTES = [logs]
