"""The error answers that routes state in the OpenAPI document; each is an `ErrorView`."""

from __future__ import annotations

from collections.abc import Mapping

from litestar.openapi.datastructures import ResponseSpec

from fallow.domain.views.base import ErrorView

Answers = Mapping[int, ResponseSpec]

_MEANING = {
    400: "InvalidInput: malformed or out of range; the message names the field.",
    401: "NotAllowed: no API key, or one that is not valid.",
    402: "InsufficientFunds: the account cannot pay for it.",
    403: "NotAllowed: the sender may not do this.",
    404: "NotFound: there is no such thing, or not for this sender.",
    409: "Conflict: it contradicts what is already so.",
    413: "TooMuch: larger than what is allowed.",
    416: "InvalidInput: the range begins after the end.",
    429: "TooMuch: too often, or too much at once; `Retry-After` says when to come again.",
    500: "Unavailable: a fault of the server; its operator finds why in the log.",
    503: "Unavailable: a part of the network is away; try again after `Retry-After` seconds.",
}
_EVERYWHERE = (400, 429, 500, 503)
_WITH_KEY = (401, 403)


def public(*statuses: int) -> Answers:
    """Return what a route that needs no key may answer: what any may, and `statuses`."""
    return _stated(*_EVERYWHERE, *statuses)


def keyed(*statuses: int) -> Answers:
    """Return the same for a route that needs an API key."""
    return public(*_WITH_KEY, *statuses)


def bodiless(answers: Answers) -> Answers:
    """Return the same for HEAD, whose answers have no body."""
    return {status: ResponseSpec(None, description=answer.description) for status, answer in answers.items()}


def _stated(*statuses: int) -> Answers:
    return {
        status: ResponseSpec(ErrorView, description=_MEANING[status], generate_examples=False)
        for status in sorted(set(statuses))
    }
