"""The gateway as an ASGI application: reads requests, finds out who asks, answers, and says no in S3's words."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from fallow.domain.errors import FallowError, Unavailable
from fallow.ports.clock import Clock
from fallow.ports.tasks import background, first_error
from fallow.ports.vertical.gateway import Asgi
from fallow.verticals.storage.client.store import Store
from fallow.verticals.storage.gateway.auth.caller import Caller, find_caller
from fallow.verticals.storage.gateway.errors import S3Error, error_document, translated
from fallow.verticals.storage.gateway.exchange import Exchange, Ground
from fallow.verticals.storage.gateway.numbers import whole
from fallow.verticals.storage.gateway.request import Receive, Request, Scope, Send
from fallow.verticals.storage.gateway.respond import XML, Response, send_response
from fallow.verticals.storage.gateway.routes.browsers import allowed_by, allowed_console
from fallow.verticals.storage.gateway.table import find
from fallow.verticals.storage.gateway.users import READ, WRITE, Users

DRAIN_BYTES_MAX: Final = 1 << 20
_ID_BYTES: Final = 8
_log = logging.getLogger(__name__)


def s3_app(
    store: Store,
    users: Users,
    clock: Clock,
    *,
    random_bytes: Callable[[int], bytes],
    region: str = "us-east-1",
    console_port: int = 0,
) -> Asgi:
    """Make the application.

    Args:
        store: what lies below.
        users: keys and accounts.
        clock: for signatures, and for requests that hang.
        random_bytes: for requests' ids.
        region: the one region that there is.
        console_port: where the network's console is, at this host; its pages may send what is signed. 0: there is none.
    """
    ground = Ground(store, users, clock, region, console_port)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            request_id = random_bytes(_ID_BYTES).hex().upper()
            await _Serving(ground, Request(scope, receive, clock), send, request_id).run()

    return app


class _Serving:
    """One request on its way."""

    def __init__(self, ground: Ground, request: Request, send: Send, request_id: str) -> None:
        self._ground = ground
        self._request = request
        self._send = send
        self._id = request_id
        self._exchange: Exchange | None = None

    async def run(self) -> None:
        watch = self._request.watch
        try:
            with first_error():
                async with background(watch.run()):
                    await self._answer()
        except ConnectionError:
            return
        except Unavailable:
            if watch.started:
                raise
            await self._reply(self._error(S3Error("RequestTimeout")), stays=False)

    async def _answer(self) -> None:
        try:
            with first_error():
                await self._reply(await self._handled())
        except S3Error as error:
            await self._refuse(error)
        except FallowError as error:
            await self._refuse(translated(error))
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the client is told, and the log
            _log.exception("Request %s failed", self._id)
            await self._refuse(S3Error("InternalError"), error)

    async def _handled(self) -> Response:
        request, ground = self._request, self._ground
        request.split()
        now_ms = ground.clock.now_ms()
        if request.method == "OPTIONS" and (said := allowed_console(request, ground.console_port)):
            return Response(200, said)
        operation = find(request)
        # A browser asks for what somebody else has signed: its question is nobody's in particular.
        caller = Caller() if request.method == "OPTIONS" else await find_caller(request, ground.users, now_ms)
        x = Exchange(request, caller, ground, now_ms)
        if caller.user is not None and (WRITE if operation.changes else READ) not in caller.user.may:
            raise S3Error("AccessDenied", "The access key may not do this.")
        if not operation.makes:
            await x.load()
            self._exchange = x
        return await operation.handler(x)

    async def _refuse(self, error: S3Error, cause: Exception | None = None) -> None:
        if self._request.watch.started:
            raise cause or error  # the answer is on its way: nothing but breaking it off says that it is not whole
        await self._reply(self._error(error))

    def _error(self, error: S3Error) -> Response:
        if error.code == "NotModified":
            return Response(304, error.headers)
        body = error_document(error, self._request.path.decode("latin-1"), self._id)
        return Response(error.status, {"content-type": XML, **error.headers}, body)

    async def _reply(self, response: Response, *, stays: bool = True) -> None:
        """Answer; where the connection `stays`, what is left of the body is taken first."""
        request = self._request
        close = not (stays and await self._drained())
        headers = {"x-amz-request-id": self._id, "x-amz-id-2": self._id, "server": "Fallow"}
        if (said := allowed_console(request, self._ground.console_port)) is not None:
            headers |= said
        elif self._exchange is not None:
            headers |= allowed_by(self._exchange.bucket, request) or {}
        await send_response(request, self._send, response, headers, close=close)

    async def _drained(self) -> bool:
        """Take what is left of a small body, so that its sender sees the answer; whether the connection can stay."""
        request = self._request
        if request.ended or request.method in {"GET", "HEAD"}:
            return True
        if request.expects or (whole(request.header("content-length")) or 0) > DRAIN_BYTES_MAX:
            return False
        size = 0
        try:
            async for data in request.body():
                size += len(data)
                if size > DRAIN_BYTES_MAX:
                    return False
        except S3Error:
            return False
        return True
