"""What accounts are told, and where. Times are milliseconds since 1970 UTC."""

from __future__ import annotations

from fallow.domain.views.base import View


class AlertView(View, frozen=True, kw_only=True):
    """What an account should look at, in words; see `fallow.domain.alerts.Alert` for `id`, `subject` and `values`."""

    id: str
    code: str
    subject: str
    name: str
    text: str
    values: dict[str, str | int] = {}


class ChannelView(View, frozen=True, kw_only=True):
    """Where an account is told: `email` or `webhook`. Nothing but the way to confirm it goes there before `confirmed`.

    `waiting` is how many messages are still to be sent; `failure_code` and `failure` say what went wrong when the last
    one was tried, at `failed_at`. `secret` signs what a webhook gets: it is told once, when the address is named.
    """

    kind: str
    address: str
    language: str
    confirmed: bool
    waiting: int = 0
    failed_at: int | None = None
    failure_code: str = ""
    failure: str = ""
    secret: str = ""

    def __repr__(self) -> str:
        """Leave the secret and the address out."""
        return f"ChannelView(kind={self.kind!r})"


class ChannelsView(View, frozen=True, kw_only=True):
    """All of an account's; whether this network can send mails at all."""

    channels: list[ChannelView]
    mail: bool
