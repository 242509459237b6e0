"""Requests for the end of an epoch, and for what epochs had been under other rules."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from fallow.domain.calls.base import Person, Request
from fallow.domain.records import COUNT_MAX

END_EPOCH = "epochs.end"
END_NOW = "epochs.end_now"

WHAT_IF_EPOCHS_MAX = 31
"""Epochs that one request may have computed again: a month of days."""


class EndEpoch(Request, frozen=True, kw_only=True):
    """Let no more records into the epoch after `after` (None: the network's first), when its time is over or `early`.

    Answered with a list of its `EpochEnd`, the same one each time; with an empty one while it goes on.
    """

    after: int | None
    early: bool = False
    by: Person | None = None


class EndNow(Request, frozen=True, kw_only=True):
    """End the open epoch before its time. Answered with its `EpochEnd`; its closing goes on by itself.

    With `after` it is the epoch after that one, and whoever asks again ends no other: the answer is the same.
    """

    after: int | None = None
    by: Person | None = None


class WhatIf(Request, frozen=True, kw_only=True):
    """Compute the latest `epochs` closed epochs, of those up to number `until`, under other rules.

    `model` takes another token model's rules first (empty: those that the epochs were closed under), then `changes`
    apply: NAME=VALUE, as `fallow epoch what-if --set` has them.
    """

    epochs: Annotated[int, Meta(ge=1, le=WHAT_IF_EPOCHS_MAX)] = 7
    until: Annotated[int, Meta(ge=0, le=COUNT_MAX)] = COUNT_MAX
    model: Literal["", "none", "work_only", "burn_and_mint"] = ""
    changes: Annotated[list[Annotated[str, Meta(max_length=1000)]], Meta(max_length=100)] = []
