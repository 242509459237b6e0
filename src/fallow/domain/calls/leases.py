"""What the market asks of nodes: to take leases, and to end them."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from fallow.domain.calls.base import Request
from fallow.domain.records import COUNT_MAX


class LeaseSecrets(Request, frozen=True, kw_only=True):
    """What a lease's sealed box holds: the values for the program of this lease."""

    lease: str
    values: dict[str, str]

    def __repr__(self) -> str:
        """Leave the values out."""
        return f"LeaseSecrets(lease={self.lease!r}, values={sorted(self.values)!r})"


class Proposal(Request, frozen=True, kw_only=True, omit_defaults=True):
    """The market asks a node to take a lease. The lease starts with the node's signed accept, and not before.

    `resume` is the checkpoint (SHA-256 in hex) to go on from; `checkpoints` says that new ones are kept;
    `until_stopped` that the work is meant to run until it is told to end. A window that is open in `cut_in_ms` from now
    ends then, and so every `cuts_apart_ms` (`fallow.domain.windows`). `secrets` is a libsodium sealed box for the
    node's key, converted to X25519, around `LeaseSecrets` as MessagePack. A node that
    knows less than the network still reads what uses none of it: fields at their defaults are left out.
    """

    lease: str
    vertical: str
    work: dict[str, Any]
    item: str | None
    seed: str
    cpu_milli: int
    memory_mib: int
    disk_mib: int
    price_microusd_per_hour: int
    window_ms: int
    time_limit_s: int
    answer_by: int
    ticket: str
    resume: str | None = None
    checkpoints: bool = False
    until_stopped: bool = False
    gpus: int = 0
    secrets: bytes = b""
    cut_in_ms: Annotated[int, Meta(ge=0, le=COUNT_MAX)] = 0
    cuts_apart_ms: Annotated[int, Meta(ge=0, le=COUNT_MAX)] = 0


def proposals(node: str) -> str:
    """Subject on which a node receives a list of `Proposal`s."""
    return f"node.{node}.propose"


def stops(node: str) -> str:
    """Subject on which a node receives a list of lease ids to end now."""
    return f"node.{node}.stop"
