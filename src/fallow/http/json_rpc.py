"""JSON-RPC over HTTP, for whoever comes: wallets in browsers, too."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from litestar import Litestar, Request, Response, get, post
from litestar.config.cors import CORSConfig
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from fallow.http.errors import HANDLERS
from fallow.http.limits import address_of
from fallow.ports.clock import Clock
from fallow.ports.rates import Buckets, Rate

BODY_BYTES_MAX = 1 << 20
RATE = Rate(200.0, 1000)
"""Requests of one address; each of a batch counts."""

Answer = Callable[[bytes, Callable[[int], None]], bytes]


def create_rpc_app(answer: Answer, clock: Clock) -> Litestar:
    """Make the ASGI application; `answer` takes a request's body and returns the answer's.

    It is given what takes further tokens of the sender's, for a batch; what that raises is all that it raises.
    """
    senders = Buckets(RATE, clock)

    def anyone(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        senders.take(address_of(connection))

    @post("/", guards=[anyone], status_code=200)
    async def rpc(request: Request[Any, Any, Any]) -> Response[bytes]:
        sender = address_of(request)
        return Response(answer(await request.body(), partial(senders.take, sender)), media_type="application/json")

    @get("/healthz", guards=[anyone])
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    return Litestar(
        route_handlers=[rpc, health],
        exception_handlers=HANDLERS,
        request_max_body_size=BODY_BYTES_MAX,
        cors_config=CORSConfig(allow_origins=["*"], allow_methods=["POST"], allow_headers=["content-type"]),
        openapi_config=None,
        logging_config=None,
    )
