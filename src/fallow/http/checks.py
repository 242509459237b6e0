"""How results were chosen to be checked, for whoever wants to recompute it."""

from __future__ import annotations

from typing import Annotated

from litestar import get
from litestar.params import PathParameter, QueryParameter

from fallow.domain import calls
from fallow.domain.views import DrawView, SeedView
from fallow.http.answers import public
from fallow.http.auth import anyone
from fallow.http.params import Limit, Parts

Number = Annotated[int, PathParameter(ge=0, le=2**31 - 1, description="An epoch of draws.")]
AfterLease = Annotated[str, QueryParameter(pattern="^([0-9a-f]{2}){0,32}$", max_length=64)]
AfterPurpose = Annotated[str, QueryParameter(pattern=r"^[a-z.]{0,20}$(?!\n)", max_length=20)]


@get("/v1/checks", guards=[anyone], responses=public(), tags=["checks"])
async def seeds(gateway: Parts) -> list[SeedView]:
    """Signed commitments to the seeds of draws, the latest first, with the seeds of epochs that are over."""
    return await gateway.ask(calls.SEEDS, {}, list[SeedView])


@get("/v1/checks/{number:int}/draws", guards=[anyone], responses=public(404), tags=["checks"])
async def draws(
    gateway: Parts, number: Number, after_lease: AfterLease = "", after_purpose: AfterPurpose = "", limit: Limit = 1000
) -> list[DrawView]:
    """An epoch's draws once it is over, by lease and purpose; `after_...` are those of the last one seen."""
    request = calls.DrawsRef(number=number, after_lease=after_lease, after_purpose=after_purpose, limit=limit)
    return await gateway.ask(calls.DRAWS, request, list[DrawView])


ROUTES = [seeds, draws]
