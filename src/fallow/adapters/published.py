"""A network's epochs over HTTP, from outside. What comes is believed by its signatures and hashes alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from ssl import SSLContext
from typing import Any, TypeVar

import httpx2
import msgspec

from fallow.domain import calls
from fallow.domain.errors import KINDS, FallowError, InvalidInput, NotFound, TooMuch, Unavailable
from fallow.domain.identity import address_text
from fallow.domain.views import ErrorView, SeedPartsView, SeedView

Answer = TypeVar("Answer")

TIMEOUT_S = 60.0
PAGE = 100
WAIT_S = 1.0
WAITS_MAX = 60


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
        """See the port: epochs are listed from the latest down."""
        first: int | None = None
        while page := self._page(first):
            if first is not None and page[-1] >= first:
                raise Unavailable("validator.answer", "The network's list of epochs goes round in a circle.")
            first = page[-1]
        return first

    def read(self, epoch: int, name: str) -> Iterator[bytes]:
        """See the port."""
        with _reaching(), self._client.stream("GET", f"/v1/epochs/{epoch}/files/{name}") as answer:
            if not answer.is_success:
                answer.read()
                raise _error_of(answer)
            yield from answer.iter_bytes()

    def vote(self, epoch: int, vote: bytes) -> None:
        """See the port."""
        headers = {"Content-Type": "application/octet-stream"}
        with _reaching():
            answer = self._client.post(f"/v1/epochs/{epoch}/votes", content=vote, headers=headers)
        if not answer.is_success:
            raise _error_of(answer)

    def next_seed(self) -> bytes | None:
        """See the port."""
        found = self._get("/v1/checks", {}, list[SeedView])
        return next((_bytes(seed.commitment) for seed in found if seed.opened_at is None), None)

    def pledges(self, number: int) -> list[bytes]:
        """See the port."""
        return [_bytes(part.pledge) for part in self._get(f"/v1/checks/{number}/parts", {}, SeedPartsView).parts]

    def pledge(self, pledge: bytes) -> None:
        """See the port."""
        self._post("/v1/checks/pledges", calls.PledgePart(pledge=pledge.hex()))

    def show_part(self, number: int, validator: bytes, part: bytes) -> None:
        """See the port."""
        shown = calls.ShowPart(number=number, validator=address_text(validator), part=part.hex())
        self._post("/v1/checks/parts", shown)

    def _page(self, before: int | None) -> list[int]:
        params = {"limit": PAGE} if before is None else {"limit": PAGE, "before": before}
        return [each.epoch for each in self._get("/v1/epochs", params, list[_Listed])]

    def _get(self, path: str, params: dict[str, int], kind: type[Answer]) -> Answer:
        with _reaching():
            answer = self._client.get(path, params=params)
        if not answer.is_success:
            raise _error_of(answer)
        try:
            return msgspec.json.decode(answer.content, type=kind)
        except msgspec.MsgspecError as error:
            raise Unavailable("validator.answer", f"The network's answer cannot be read: {error}.") from error

    def _post(self, path: str, body: calls.Request) -> None:
        headers = {"Content-Type": "application/json"}
        with _reaching():
            answer = self._client.post(path, content=msgspec.json.encode(body), headers=headers)
        if not answer.is_success:
            raise _error_of(answer)


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
    epoch: int


@contextmanager
def _reaching() -> Iterator[None]:
    try:
        yield
    except httpx2.HTTPError as error:
        raise Unavailable(
            "validator.unreachable", f"The network does not answer: {error}.", "It is asked again."
        ) from error


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise Unavailable("validator.answer", f"The network's answer cannot be read: {error}.") from error


def _error_of(answer: httpx2.Response) -> FallowError:
    """The error that an answer stands for."""
    kinds: dict[int, type[FallowError]] = {404: NotFound, 413: TooMuch}
    known = kinds.get(answer.status_code, Unavailable)
    try:
        view: Any = msgspec.json.decode(answer.content, type=ErrorView)
    except msgspec.MsgspecError:
        return known("validator.answer", f"The network answered {answer.status_code}.")
    if answer.is_server_error or answer.status_code == httpx2.codes.TOO_MANY_REQUESTS:
        return Unavailable(view.code, view.message, view.hint)
    return KINDS.get(view.kind, known)(view.code, view.message, view.hint)
