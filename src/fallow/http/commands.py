"""Commands in the sandboxes of running items, for whoever needs no terminal."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import msgspec
from litestar import Request, post
from litestar.params import JSONBody
from litestar.types import Receive, Send

from fallow.domain import calls
from fallow.domain.commands import Kind, encode, encode_data
from fallow.domain.errors import Conflict, FallowError, NotAllowed
from fallow.domain.streams import Exec, Opening
from fallow.domain.views.base import error_view
from fallow.http.answers import keyed
from fallow.http.auth import buyer, until_refused
from fallow.http.lasting import LastingResponse, first_of, gone, send_piece
from fallow.http.logs import LEASE_HEADER, ItemIndex
from fallow.http.params import Account, JobId, Parts
from fallow.ports.streams import Stream


@post(
    "/v1/jobs/{job_id:str}/items/{index:int}/exec",
    guards=[buyer],
    status_code=200,
    media_type="application/octet-stream",
    responses=keyed(404, 409, 413),
    tags=["jobs"],
)
async def execute(
    gateway: Parts,
    request: Request[Any, calls.keys.KeyInfo, Any],
    payer: Account,
    job_id: JobId,
    index: ItemIndex,
    data: JSONBody[calls.streams.RunCommand],
) -> LastingResponse:
    """Run a command in the sandbox of an item that runs now. What it writes is sent in pieces as it comes.

    A piece is its kind (1 byte), its length (2 bytes, big-endian) and its payload: 17 is of stdout, 18 of stderr, and
    19, the last one, holds the exit code in a byte; in its stead 20 holds an ErrorView that says why there is none. The
    command ends with the job, when the client goes, and when what asked for it is good no more. 409 when the item does
    not run.
    """
    want = calls.streams.StreamRef(account=payer, job=job_id, item=index, purpose="exec")
    with ExitStack() as held:
        held.enter_context(gateway.streams.opened(payer))
        grant = await gateway.ask(calls.streams.STREAM, want, calls.streams.StreamGrant)
        stream = await gateway.open(Opening(grant.ticket, Exec(data.command)))
        held.callback(stream.reset, Conflict("stream.closed", "Whoever ran the command has gone."))
        run, headers = _Running(stream, request, data.stdin.encode()).run, {LEASE_HEADER: grant.lease}
        return LastingResponse(run, held.pop_all(), media_type="application/octet-stream", headers=headers)


class _Running:
    def __init__(self, stream: Stream, request: Request[Any, Any, Any], stdin: bytes) -> None:
        self._stream = stream
        self._request = request
        self._stdin = stdin

    async def run(self, receive: Receive, send: Send) -> None:
        await first_of(self._carry(send), self._refused(send), gone(receive))

    async def _refused(self, send: Send) -> None:
        try:
            await until_refused(self._request)
        except NotAllowed as error:
            await send_piece(send, encode(Kind.REFUSED, msgspec.json.encode(error_view(error))))

    async def _carry(self, send: Send) -> None:
        """What it reads fits what a stream takes in unasked, so that nothing has to be read meanwhile."""
        try:
            await self._stream.write(encode_data(Kind.INPUT, self._stdin) + encode(Kind.INPUT_END))
            while piece := await self._stream.read():
                await send_piece(send, piece)
        except FallowError as error:
            await send_piece(send, encode(Kind.REFUSED, msgspec.json.encode(error_view(error))))


ROUTES = [execute]
