"""Requests for how results are checked: evidence, draws and their seeds, roll calls."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from fallow.domain.calls.base import Request
from fallow.domain.resources import CPU_MILLI_MAX

EVIDENCE = "market.evidence"
RERUNS = "market.reruns"
JOB_EVIDENCE = "market.job_evidence"
SEEDS = "market.seeds"
SEED_PARTS = "market.seed_parts"
PLEDGE_PART = "market.pledge_part"
SHOW_PART = "market.show_part"
DRAWS = "market.draws"
ROLL_CALLS = "market.roll_calls"


class SeedRef(Request, frozen=True, kw_only=True):
    """The seed of an epoch of draws."""

    number: Annotated[int, Meta(ge=0, le=2**31)]


class PledgePart(Request, frozen=True, kw_only=True):
    """A validator pledges a part of a seed: its signed `Pledge`, in hex."""

    pledge: Annotated[str, Meta(pattern="^([0-9a-f]{2})+$", max_length=1024)]


class ShowPart(Request, frozen=True, kw_only=True):
    """The part (hex) of a seed that a validator pledged."""

    number: Annotated[int, Meta(ge=0, le=2**31)]
    validator: Annotated[str, Meta(pattern="^0x[0-9a-fA-F]{40}$")]
    part: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class DrawsRef(Request, frozen=True, kw_only=True):
    """Draws of an epoch that is over, from after the last one seen: its lease (hex) and purpose."""

    number: Annotated[int, Meta(ge=0, le=2**31)]
    after_lease: Annotated[str, Meta(pattern="^([0-9a-f]{2}){0,32}$", max_length=64)] = ""
    after_purpose: Annotated[str, Meta(max_length=20)] = ""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 1000


class RollCallsRef(Request, frozen=True, kw_only=True):
    """The latest roll calls; with `found` only those that convicted somebody."""

    found: bool = False
    limit: Annotated[int, Meta(ge=1, le=200)] = 50


class RollCall(Request, frozen=True, kw_only=True):
    """The network asks a node to work for `work_ms` now with `cpu_milli` that it has free; see `domain.rollcall`.

    A node whose owner needs it, or that has sold it meanwhile, declines with the reason.
    """

    call: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    vertical: str
    cpu_milli: Annotated[int, Meta(ge=1, le=CPU_MILLI_MAX)]
    work_ms: Annotated[int, Meta(ge=1, le=10_000)]


class RollAnswer(Request, frozen=True, kw_only=True):
    """The node's sealed `domain.rollcall.Answer`."""

    sealed: Annotated[bytes, Meta(max_length=4096)]


class RollShow(Request, frozen=True, kw_only=True):
    """The node has answered: it shows these of its steps."""

    call: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    wanted: Annotated[list[Annotated[int, Meta(ge=0)]], Meta(max_length=64)]


class RollShown(Request, frozen=True, kw_only=True):
    """The steps, as the vertical writes them."""

    shown: Annotated[bytes, Meta(max_length=64 << 10)]


def roll_calls(node: str) -> str:
    """Subject on which a node answers `RollCall`s."""
    return f"node.{node}.roll_call"


def roll_shows(node: str) -> str:
    """Subject on which a node answers `RollShow`s."""
    return f"node.{node}.roll_show"
