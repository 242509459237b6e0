"""How results were chosen to be checked, for whoever wants to recompute it."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, Response, get, post
from litestar.params import JSONBody, PathParameter, QueryParameter

from fallow.domain import calls
from fallow.domain.orders import Order
from fallow.domain.views.checks import DrawView, RollCallView, SeedPartsView, SeedView
from fallow.domain.views.jobs import JobView
from fallow.http.answers import keyed, public
from fallow.http.auth import anyone, buyer, operator
from fallow.http.jobs import check_order
from fallow.http.params import Account, By, Limit, Parts
from fallow.http.shared import Ready

Number = Annotated[int, PathParameter(ge=0, le=2**31 - 1, description="An epoch of draws.")]
AfterLease = Annotated[str, QueryParameter(pattern="^([0-9a-f]{2}){0,32}$", max_length=64)]
Calls = Annotated[int, QueryParameter(ge=1, le=200, description="At most so many.")]
Found = Annotated[bool, QueryParameter(description="Only those that convicted somebody.")]
AfterPurpose = Annotated[str, QueryParameter(pattern=r"^[a-z.]{0,20}$(?!\n)", max_length=20)]


@get("/v1/checks", guards=[anyone], responses=public(), tags=["checks"])
async def seeds(gateway: Parts, request: Request[Any, Any, Any]) -> Response[list[SeedView]]:
    """Signed commitments to the seeds of draws, the latest first, with the seeds of epochs that are over."""
    return Ready(
        await gateway.shared.answer("/v1/checks", gateway.asking(calls.checks.SEEDS, {}, list[SeedView])), request
    )


@get("/v1/checks/{number:int}/parts", guards=[anyone], responses=public(404), tags=["checks"])
async def parts(gateway: Parts, number: Number) -> SeedPartsView:
    """What validators add to the seed of an epoch of draws: pledges, and the parts that were shown so far."""
    return await gateway.ask(calls.checks.SEED_PARTS, calls.checks.SeedRef(number=number), SeedPartsView)


@post("/v1/checks/pledges", guards=[anyone], responses=public(403, 409), tags=["checks"])
async def pledge(gateway: Parts, data: JSONBody[calls.checks.PledgePart]) -> SeedPartsView:
    """Validator: pledge a part of the seed after the next one. The same again changes nothing."""
    return await gateway.ask(calls.checks.PLEDGE_PART, data, SeedPartsView)


@post("/v1/checks/parts", guards=[anyone], responses=public(404, 409), tags=["checks"])
async def show_part(gateway: Parts, data: JSONBody[calls.checks.ShowPart]) -> SeedPartsView:
    """Validator: show the part of the next seed that was pledged. The same again changes nothing."""
    return await gateway.ask(calls.checks.SHOW_PART, data, SeedPartsView)


@get("/v1/checks/{number:int}/draws", guards=[anyone], responses=public(404), tags=["checks"])
async def draws(
    gateway: Parts, number: Number, after_lease: AfterLease = "", after_purpose: AfterPurpose = "", limit: Limit = 1000
) -> list[DrawView]:
    """An epoch's draws once it is over, by lease and purpose; `after_...` are those of the last one seen."""
    request = calls.checks.DrawsRef(number=number, after_lease=after_lease, after_purpose=after_purpose, limit=limit)
    return await gateway.ask(calls.checks.DRAWS, request, list[DrawView])


@get("/v1/roll-calls", guards=[anyone], responses=public(), tags=["checks"])
async def roll_calls(
    gateway: Parts, request: Request[Any, Any, Any], *, found: Found = False, limit: Calls = 50
) -> Response[list[RollCallView]]:
    """Moments at which nodes had to show what they have free, the latest first, with what each of them signed.

    With `found` only those that convicted somebody.
    """
    ask = gateway.asking(
        calls.checks.ROLL_CALLS, calls.checks.RollCallsRef(found=found, limit=limit), list[RollCallView]
    )
    return Ready(await gateway.shared.answer(f"/v1/roll-calls?found={found}&limit={limit}", ask), request)


@post("/v1/operator/canaries", guards=[buyer, operator], responses=keyed(404, 409, 413), tags=["operator"])
async def plant(gateway: Parts, payer: Account, by: By, data: JSONBody[Order]) -> JobView:
    """Have work done, on the network's account, that nodes are then given to see whether they tell the truth.

    It must give the same bytes on every machine. The key must be allowed to buy too: the blobs are its account's.
    """
    await check_order(gateway, payer, data)
    return await gateway.ask(calls.jobs.PLANT, calls.jobs.Submit(account=payer, order=data, by=by), JobView)


PUBLIC_ROUTES = [seeds, parts, pledge, show_part, draws, roll_calls]
ROUTES = [plant]
