"""Every error leaves as an `ErrorView`, with the status that HTTP has for it."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.types import ExceptionHandlersMap

from fallow.domain.errors import (
    Conflict,
    FallowError,
    InsufficientFunds,
    InvalidInput,
    NotAllowed,
    NotFound,
    TooMuch,
    Unavailable,
    kind_of,
)
from fallow.domain.views.base import ErrorView, error_view
from fallow.ports.mishaps import MISHAPS
from fallow.ports.rates import TooSoon

RETRY_AFTER_S = 1

_STATUS: dict[type[FallowError], int] = {
    InvalidInput: 400,
    NotAllowed: 403,
    NotFound: 404,
    Conflict: 409,
    InsufficientFunds: 402,
    TooMuch: 413,
    Unavailable: 503,
}

_HTTP: dict[int, tuple[str, str]] = {
    404: ("NotFound", "http.not_found"),
    405: ("InvalidInput", "http.method"),
    413: ("TooMuch", "http.body"),
    429: ("TooMuch", "rate.requests"),
    503: ("Unavailable", "http.unavailable"),
}
"""What the framework itself refuses; everything else below 500 is InvalidInput `http.invalid`."""

GONE = "client disconnected prematurely"
"""What the framework says of a body whose sender hung up in the middle of it, as a fault of ours: it is none."""

AnyRequest = Request[Any, Any, Any]


def status_of(error: FallowError) -> int:
    """Return the HTTP status of an error."""
    if isinstance(error, NotAllowed) and error.code.startswith("auth."):
        return 401
    if error.code == "internal":
        return 500
    if isinstance(error, TooMuch) and error.code.startswith("rate."):
        return 429
    return _STATUS[kind_of(error)]


def on_fallow_error(_: AnyRequest, error: FallowError) -> Response[ErrorView]:
    """Answer with what a part of Fallow raised."""
    status = status_of(error)
    headers: dict[str, str] = {}
    if status == 401:  # noqa: PLR2004
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, TooSoon):
        headers["Retry-After"] = str(error.wait_s)
    elif status in {429, 503}:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    return Response(error_view(error), status_code=status, headers=headers)


def on_http_error(request: AnyRequest, error: HTTPException) -> Response[ErrorView]:
    """Answer with what the framework refused: unknown routes, malformed or oversized input."""
    if error.detail == GONE:
        gone = ErrorView(kind="InvalidInput", code="http.gone", message="The sender hung up.")
        return Response(gone, status_code=400)
    if error.status_code >= 500 and error.status_code not in _HTTP:  # noqa: PLR2004
        return on_unexpected(request, error)
    kind, code = _HTTP.get(error.status_code, ("InvalidInput", "http.invalid"))
    details = {"errors": error.extra} if error.extra else {}
    view = ErrorView(kind=kind, code=code, message=_sentence(error), hint="See /schema.", details=details)
    return Response(view, status_code=error.status_code, headers=error.headers or {})


def on_unreadable(_: AnyRequest, error: Exception) -> Response[ErrorView]:
    """Answer to a body that is no UTF-8 or nests without end, which the framework takes for a fault of ours."""
    view = ErrorView(kind="InvalidInput", code="http.invalid", message=f"The body cannot be read: {error}.")
    return Response(view, status_code=400)


def on_unexpected(request: AnyRequest, error: Exception) -> Response[ErrorView]:
    """Answer with nothing but that it failed; the cause goes to the log."""
    route = request.scope.get("path_template") or "elsewhere"
    MISHAPS.note(f"{request.method} {route}", error)
    view = ErrorView(
        kind="Unavailable",
        code="internal",
        message="The server failed at this.",
        hint="Its operator finds why in the log: fallow health",
    )
    return Response(view, status_code=500)


def _sentence(error: HTTPException) -> str:
    reasons = [
        f"{each.get('key', 'body')}: {each.get('message')}" for each in error.extra or () if isinstance(each, dict)
    ]
    return f"The request is not valid: {'; '.join(reasons)}." if reasons else f"{error.detail.rstrip('.')}."


HANDLERS: ExceptionHandlersMap = {
    FallowError: on_fallow_error,
    HTTPException: on_http_error,
    UnicodeDecodeError: on_unreadable,
    RecursionError: on_unreadable,
    Exception: on_unexpected,
}
