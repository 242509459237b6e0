"""Requests to verticals: to their side of the network, and to their workers on nodes."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from fallow.domain.calls.base import Request
from fallow.domain.grants import TEXT_CHARACTERS_MAX

GRANTED = "granted"
"""The call by which holders of grants ask the network's side of a vertical (`Granted`)."""

ALERTS = "alerts"
"""The call (`AccountRef`) by which the network's side of a vertical tells what it knows of.

The answer is a list of `fallow.domain.alerts.Alert`, each with what it has `said` in both languages.
"""


class Granted(Request, frozen=True, kw_only=True):
    """A call of a vertical by whoever shows a grant (`domain.grants`). Whose account it is for, the grant says."""

    grant: Annotated[str, Meta(max_length=TEXT_CHARACTERS_MAX)]
    call: Annotated[str, Meta(max_length=64)]
    body: msgspec.Raw

    def __repr__(self) -> str:
        """Leave the grant out."""
        return f"Granted(call={self.call!r})"


def vertical_call(vertical: str, call: str) -> str:
    """Subject on which the network's side of a vertical answers one of its calls."""
    return f"vertical.{vertical}.{call}"


def vertical_question(node: str, vertical: str) -> str:
    """Subject on which the worker of a vertical on a node is asked: bytes, answered with bytes."""
    return f"node.{node}.vertical.{vertical}"


def vertical_told(node: str, vertical: str) -> str:
    """Subject of what the worker of a vertical on a node (`*`: on any) tells by itself: bytes."""
    return f"vertical.node.{node}.{vertical}"


def vertical_teller(subject: str) -> bytes:
    """Return which node told something on such a subject: the bus lets nobody else."""
    return bytes.fromhex(subject.split(".")[2])
