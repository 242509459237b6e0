"""Typed requests over the bus. Replies carry either a result or one of the errors of `fallow.domain.errors`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, TypeVar

import msgspec

from fallow.domain.decoding import UNREADABLE
from fallow.domain.errors import KINDS, FallowError, InvalidInput, Unavailable, kind_of
from fallow.ports.bus import MESSAGE_BYTES_MAX, Bus, Message
from fallow.ports.counting import Counts
from fallow.ports.mishaps import MISHAPS, internal

RequestT = TypeVar("RequestT")
ReplyT = TypeVar("ReplyT")
TIMEOUT_S = 10.0
CONCURRENCY = 64
"""Requests on one subject that a process works on at a time. Where they wait for a common transaction it takes more."""

Empty = dict[str, str]
"""The request or reply that says nothing."""

REFUSED: Final = Counts()
"""What this process has answered with an error, by the first word of the subject and the error's code."""


class _Reply(msgspec.Struct, omit_defaults=True):
    ok: msgspec.Raw = msgspec.Raw(b"\xc0")
    error: tuple[str, str, str, str] | None = None


_TOO_LARGE = msgspec.msgpack.encode(
    _Reply(error=("TooMuch", "rpc.reply_too_large", "The answer is too large for the bus.", "Ask for less at a time."))
)


async def call(bus: Bus, subject: str, request: object, reply: type[ReplyT], *, timeout_s: float = TIMEOUT_S) -> ReplyT:
    """Ask, and return the answer as `reply`.

    Raises:
        FallowError: as the other side raised it; Unavailable when nobody answered.
    """
    answer = msgspec.msgpack.decode(
        await bus.request(subject, msgspec.msgpack.encode(request), timeout_s=timeout_s), type=_Reply
    )
    if answer.error is not None:
        kind, code, message, hint = answer.error
        raise KINDS.get(kind, Unavailable)(code, message, hint)
    return msgspec.msgpack.decode(answer.ok, type=reply)


def serve(
    bus: Bus,
    subject: str,
    request: type[RequestT],
    handler: Callable[[RequestT], Awaitable[Any]],
    *,
    queue: str,
    concurrency: int = CONCURRENCY,
) -> AbstractAsyncContextManager[None]:
    """Answer `call`s on `subject` while the context is open; copies that name the same `queue` share the work.

    A handler that raises anything but a FallowError has a bug: that is noted (`fallow.ports.mishaps`) and answered with
    the code `internal`.
    """

    async def without_subject(_: str, asked: RequestT) -> Any:  # noqa: ANN401 - whatever the handler answers
        return await handler(asked)

    return serve_many(bus, subject, request, without_subject, queue=queue, concurrency=concurrency)


def serve_many(
    bus: Bus,
    subject: str,
    request: type[RequestT],
    handler: Callable[[str, RequestT], Awaitable[Any]],
    *,
    queue: str,
    concurrency: int = CONCURRENCY,
) -> AbstractAsyncContextManager[None]:
    """Do the same on a subject with wildcards; the handler is told which one a request came on."""

    async def answer(message: Message) -> bytes:
        try:
            result = await handler(message.subject, _decode(message.data, request))
            reply = _Reply(ok=msgspec.Raw(msgspec.msgpack.encode(result)))
        except FallowError as error:
            REFUSED.add(subject.split(".", maxsplit=1)[0], error.code)
            reply = _refused(error)
        except Exception as error:  # noqa: BLE001 - one request that hits a bug must not end the service
            MISHAPS.note(subject, error)
            reply = _refused(internal())
        data = msgspec.msgpack.encode(reply)
        return data if len(data) <= MESSAGE_BYTES_MAX else _TOO_LARGE

    return bus.serve(subject, answer, queue=queue, concurrency=concurrency)


def _refused(error: FallowError) -> _Reply:
    return _Reply(error=(kind_of(error).__name__, error.code, error.message, error.hint))


def _decode(data: bytes, to: type[RequestT]) -> RequestT:
    try:
        return msgspec.msgpack.decode(data, type=to)
    except UNREADABLE as error:
        raise InvalidInput("rpc.malformed", f"The request does not fit {to}: {error}.") from error
