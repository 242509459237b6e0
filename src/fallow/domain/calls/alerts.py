"""Requests for where accounts are told what they should look at."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from fallow.domain.calls.base import Request

ALERT_CHANNELS = "alerts.channels"
SET_CHANNEL = "alerts.set"
CONFIRM_CHANNEL = "alerts.confirm"
END_CHANNEL = "alerts.end"
STOP_ALERTS = "alerts.stop"


class AlertsTo(Request, frozen=True, kw_only=True):
    """A mail address or the URL of a webhook, and the language (en or ja) of what is written there."""

    address: Annotated[str, Meta(min_length=3, max_length=500, pattern=r"^[\x21-\x7e]+$(?!\n)")]
    language: Literal["en", "ja"] = "en"


class ChannelRef(Request, frozen=True, kw_only=True):
    """One of the two ways by which an account is told."""

    account: str
    kind: Literal["email", "webhook"]


class SetChannel(ChannelRef, frozen=True, kw_only=True):
    """Where it leads from now on, once it is confirmed."""

    to: AlertsTo


class AlertsCode(Request, frozen=True, kw_only=True):
    """The code that a mail brought."""

    code: Annotated[str, Meta(pattern=r"^[0-9]{8}$(?!\n)", max_length=8)]


class ConfirmChannel(ChannelRef, frozen=True, kw_only=True):
    """The code that came there."""

    code: str


class StopAlerts(Request, frozen=True, kw_only=True):
    """What each mail names, so that whoever reads it can end them."""

    token: str
