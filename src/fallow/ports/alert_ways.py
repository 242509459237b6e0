"""The two ways out of the network by which alerts leave it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol


class Letter(NamedTuple):
    """A mail of plain text, written `at` (milliseconds since 1970).

    `id` is the same whenever it is sent again; `stop_url` takes a POST that ends it all.
    """

    id: str
    at: int
    to: str
    subject: str
    text: str
    stop_url: str = ""


class Mail(Protocol):
    """The operator's mail server."""

    async def send(self, letter: Letter) -> None:
        """Hand a letter over.

        Raises:
            Unavailable: it was not taken (`alerts.mail`); the sentence names no secret.
        """
        ...


class Hook(Protocol):
    """Somebody's web server."""

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        """Post, and return the beginning of the answer.

        Raises:
            Unavailable: it may not be asked or was not reached (`alerts.webhook`), did not answer in time
                (`alerts.webhook_late`), or not with success (`alerts.webhook_answer`).
        """
        ...
