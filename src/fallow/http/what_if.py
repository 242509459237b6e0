"""Closed epochs under other rules, for who thinks of changing them. Nothing is changed by it."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

from litestar import post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import JSONBody
from litestar.status_codes import HTTP_200_OK
from litestar.types import Receive, Send

from fallow.domain import calls
from fallow.domain.errors import FallowError, NotFound, TooMuch
from fallow.domain.views.base import error_view
from fallow.domain.views.what_if import WhatIfEpochView, WhatIfView
from fallow.http.answers import keyed
from fallow.http.auth import viewer
from fallow.http.epochs import listed
from fallow.http.gateway import Gateway
from fallow.http.lasting import LastingResponse, first_of, gone, send_event, send_piece
from fallow.http.params import By, Parts
from fallow.ports.otherwise import Begin

TIME_MAX_S = 600

EVENTS = "text/event-stream"
FOUND = ResponseSpec(
    list[WhatIfEpochView | WhatIfView],
    description="What the events hold, one each.",
    media_type=EVENTS,
    generate_examples=False,
)


@post(
    "/v1/operator/what-if",
    guards=[viewer],
    status_code=HTTP_200_OK,
    media_type=EVENTS,
    responses={**keyed(404, 413), HTTP_200_OK: FOUND},
    tags=["operator"],
)
async def what_if(gateway: Parts, by: By, data: JSONBody[calls.epochs.WhatIf]) -> LastingResponse:
    """An `epoch` event for each closed epoch as it is computed, and a `result` event with what they come to.

    An `error` event with an ErrorView ends it early. Who goes ends it, too; each account has one at a time.
    """
    closed = await asyncio.to_thread(listed, gateway, data.until + 1, 1)
    if not closed or gateway.what_if is None:
        raise NotFound("epoch.not_closed", "No such epoch is closed yet.", "See which are: fallow epoch ls")
    held = ExitStack()
    held.enter_context(gateway.turns.taken(by.account))
    return LastingResponse(_Computing(gateway, gateway.what_if, data).run, held, media_type=EVENTS)


class _Computing:
    def __init__(self, gateway: Gateway, begin: Begin, asked: calls.epochs.WhatIf) -> None:
        self._gateway = gateway
        self._begin = begin
        self._asked = asked

    async def run(self, receive: Receive, send: Send) -> None:
        """Send until all is computed, or the reader is gone."""
        await first_of(self._computed(send), self._heartbeat(send), gone(receive))

    async def _computed(self, send: Send) -> None:
        try:
            with self._begin(self._asked) as found:
                while (one := await asyncio.to_thread(next, found, None)) is not None:
                    await send_event(send, "epoch" if isinstance(one, WhatIfEpochView) else "result", one)
        except FallowError as error:
            await send_event(send, "error", error_view(error))

    async def _heartbeat(self, send: Send) -> None:
        """Keep proxies from closing the stream, and end it where it takes too long."""
        clock = self._gateway.clock
        until = clock.monotonic_ms() + TIME_MAX_S * 1000
        while clock.monotonic_ms() < until:
            await clock.sleep(self._gateway.limits.heartbeat_s)
            await send_piece(send, b": still here\n\n")
        told = f"It was not computed in {TIME_MAX_S} seconds."
        await send_event(send, "error", error_view(TooMuch("what_if.time", told, "Take fewer epochs.")))


ROUTES = [what_if]
