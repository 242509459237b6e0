"""Tickets with which a buyer's own streams reach his running items."""

from __future__ import annotations

import msgspec
from litestar import post
from litestar.params import JSONBody

from fallow.domain import calls
from fallow.http.answers import keyed
from fallow.http.auth import buyer
from fallow.http.logs import ItemIndex
from fallow.http.params import Account, JobId, Parts


@post(
    "/v1/jobs/{job_id:str}/items/{index:int}/streams",
    guards=[buyer],
    status_code=200,
    responses=keyed(404, 409, 413),
    tags=["jobs"],
)
async def reach(
    gateway: Parts, payer: Account, job_id: JobId, index: ItemIndex, data: JSONBody[calls.streams.Reach]
) -> calls.streams.StreamGrant:
    """A ticket for streams to an item that runs now, good for ten minutes: open them over `/v1/streams`.

    With `direct`, and where the machine can be dialled itself, it says how: its address, and the certificate that it
    shows.
    409 when the item does not run.
    """
    want = calls.streams.StreamRef(account=payer, job=job_id, item=index, purpose=data.purpose)
    grant = await gateway.ask(calls.streams.STREAM, want, calls.streams.StreamGrant)
    direct = await gateway.direct(bytes.fromhex(grant.node)) if data.direct else None
    return msgspec.structs.replace(grant, direct=direct)


ROUTES = [reach]
