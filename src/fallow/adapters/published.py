"""A network's epochs over HTTP, from outside. What comes is believed by its signatures and hashes alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from ssl import SSLContext
from typing import Annotated, Any, TypeVar

import httpx2
import msgspec

from fallow.domain import calls
from fallow.domain.decoding import UNREADABLE
from fallow.domain.errors import KINDS, FallowError, InvalidInput, NotFound, TooMuch, Unavailable
from fallow.domain.identity import address_text
from fallow.domain.views.base import ErrorView
from fallow.domain.views.checks import SeedPartsView, SeedView

Answer = TypeVar("Answer")

TIMEOUT_S = 60.0
ANSWER_BYTES_MAX = 4 << 20
"""Of an answer that is no file: several times the longest. A network may be anybody's: it fills no memory."""
WAIT_S = 1.0
WAITS_MAX = 60
EPOCHS_END = 2**53
"""A network numbers its epochs below this."""


class HttpPublished:
    """The port over HTTP; `tls` says whose certificates are taken."""

    def __init__(self, url: str, tls: SSLContext | bool = True) -> None:
        try:
            self._client = httpx2.Client(base_url=url, timeout=TIMEOUT_S, transport=_Patient(verify=tls))
        except httpx2.InvalidURL as error:
            raise InvalidInput("validator.url", f"{url!r} is no address of a network.", "https://NAME:PORT") from error

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def first(self) -> int | None:
        """See the port: epochs are listed from the latest down. It is searched by halves: that ends, whatever comes."""
        first = self._latest_below(EPOCHS_END)
        if first is None:
            return None
        none_below = 0
        while none_below < first:
            middle = (none_below + first) // 2
            found = self._latest_below(middle + 1)
            if found is None:
                none_below = middle + 1
            else:
                first = found
        return first

    def read(self, epoch: int, name: str) -> Iterator[bytes]:
        """See the port."""
        with _reaching(), self._client.stream("GET", f"/v1/epochs/{epoch}/files/{name}") as answer:
            if not answer.is_success:
                raise _error_of(answer, _whole(answer))
            yield from answer.iter_bytes()

    def vote(self, epoch: int, vote: bytes) -> None:
        """See the port."""
        self._hand_in(f"/v1/epochs/{epoch}/votes", vote, "application/octet-stream")

    def next_seed(self) -> bytes | None:
        """See the port."""
        found = self._get("/v1/checks", {}, list[SeedView])
        return next((_bytes(seed.commitment) for seed in found if seed.opened_at is None), None)

    def pledges(self, number: int) -> list[bytes]:
        """See the port."""
        return [_bytes(part.pledge) for part in self._get(f"/v1/checks/{number}/parts", {}, SeedPartsView).parts]

    def pledge(self, pledge: bytes) -> None:
        """See the port."""
        self._post("/v1/checks/pledges", calls.checks.PledgePart(pledge=pledge.hex()))

    def show_part(self, number: int, validator: bytes, part: bytes) -> None:
        """See the port."""
        shown = calls.checks.ShowPart(number=number, validator=address_text(validator), part=part.hex())
        self._post("/v1/checks/parts", shown)

    def _latest_below(self, end: int) -> int | None:
        found = self._get("/v1/epochs", {"limit": 1, "before": end}, list[_Listed])
        if found and found[0].epoch >= end:
            raise Unavailable("validator.answer", f"The network's list of epochs below {end} has {found[0].epoch}.")
        return found[0].epoch if found else None

    def _get(self, path: str, params: dict[str, int], kind: type[Answer]) -> Answer:
        with _reaching(), self._client.stream("GET", path, params=params) as answer:
            data = _told(answer)
        try:
            return msgspec.json.decode(data, type=kind)
        except UNREADABLE as error:
            raise Unavailable("validator.answer", f"The network's answer cannot be read: {error}.") from error

    def _post(self, path: str, body: calls.base.Request) -> None:
        self._hand_in(path, msgspec.json.encode(body), "application/json")

    def _hand_in(self, path: str, body: bytes, kind: str) -> None:
        with _reaching(), self._client.stream("POST", path, content=body, headers={"Content-Type": kind}) as answer:
            _told(answer)


class _Patient(httpx2.HTTPTransport):
    """Waits where the network says that this line asks too often: an epoch has many files."""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request, and again as long as that is the answer, up to a bound."""
        for _ in range(WAITS_MAX):
            answer = super().handle_request(request)
            if answer.status_code != httpx2.codes.TOO_MANY_REQUESTS:
                return answer
            answer.close()
            time.sleep(WAIT_S)
        return super().handle_request(request)


class _Listed(msgspec.Struct):
    epoch: Annotated[int, msgspec.Meta(ge=0)]


@contextmanager
def _reaching() -> Iterator[None]:
    try:
        yield
    except httpx2.HTTPError as error:
        hint = "Is the address right, and its authority's certificate named (--ca)? Who goes on judging asks again."
        raise Unavailable("validator.unreachable", f"The network does not answer: {error}", hint) from error


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise Unavailable("validator.answer", f"The network's answer cannot be read: {error}.") from error


def _told(answer: httpx2.Response) -> bytes:
    """What an answer says, or the error that it stands for."""
    data = _whole(answer)
    if not answer.is_success:
        raise _error_of(answer, data)
    return data


def _whole(answer: httpx2.Response) -> bytes:
    data = bytearray()
    for piece in answer.iter_bytes():
        data += piece
        if len(data) > ANSWER_BYTES_MAX:
            raise Unavailable("validator.answer", f"The network answers more than {ANSWER_BYTES_MAX} bytes.")
    return bytes(data)


def _error_of(answer: httpx2.Response, data: bytes) -> FallowError:
    """The error that an answer stands for."""
    kinds: dict[int, type[FallowError]] = {404: NotFound, 413: TooMuch}
    known = kinds.get(answer.status_code, Unavailable)
    try:
        view: Any = msgspec.json.decode(data, type=ErrorView)
    except UNREADABLE:
        return known("validator.answer", f"The network answered {answer.status_code}.")
    if answer.is_server_error or answer.status_code == httpx2.codes.TOO_MANY_REQUESTS:
        return Unavailable(view.code, view.message, view.hint)
    return KINDS.get(view.kind, known)(view.code, view.message, view.hint)
