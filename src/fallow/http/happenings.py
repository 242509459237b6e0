"""What happens on the network, for everybody: the latest of it, and the rest as server-sent events while it happens."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Any, Final

from litestar import Request, get
from litestar.types import Receive, Send

from fallow.domain.happenings import Happenings
from fallow.http.answers import public
from fallow.http.auth import anyone
from fallow.http.lasting import LastingResponse, first_of, gone, send_piece
from fallow.http.limits import address_of
from fallow.http.onlookers import Onlookers
from fallow.http.params import Parts
from fallow.ports.clock import Clock

_ALL: Final = "all"


@get("/v1/happenings", guards=[anyone], responses=public(), tags=["network"])
async def happenings(gateway: Parts) -> Happenings:
    """What happened lately, the oldest first: nodes that joined, leases, checks of nodes, epochs."""
    return gateway.onlookers.latest()


@get("/v1/happenings/events", guards=[anyone], media_type="text/event-stream", responses=public(), tags=["network"])
async def events(gateway: Parts, request: Request[Any, Any, Any]) -> LastingResponse:
    """A `happened` event with what happened lately, then one with what came since, once a second at most.

    Comments keep the connection open. It ends for who reads too slowly: connect again.
    """
    onlookers = gateway.onlookers
    with ExitStack() as opened:
        opened.enter_context(onlookers.per_address.opened(address_of(request)))
        opened.enter_context(onlookers.altogether.opened(_ALL))
        held = opened.pop_all()
    run = partial(look_on, onlookers, gateway.clock, gateway.limits.heartbeat_s)
    return LastingResponse(run, held, media_type="text/event-stream")


async def look_on(onlookers: Onlookers, clock: Clock, heartbeat_s: float, receive: Receive, send: Send) -> None:
    """Send until the client is gone, or too far behind."""
    reader = onlookers.join()
    try:
        await first_of(reader.forward(send), _heartbeat(send, clock, heartbeat_s), reader.behind(), gone(receive))
    finally:
        onlookers.leave(reader)


async def _heartbeat(send: Send, clock: Clock, every_s: float) -> None:
    while True:
        await clock.sleep(every_s)
        await send_piece(send, b": still here\n\n")


ROUTES = [happenings, events]
